package hub

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/sse"
)

// schemaFile writes a schema, and returns its path.
func schemaFile(t testing.TB, schema string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "schema.json")
	if err := os.WriteFile(file, []byte(schema), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// rulesOf are the rules of the channel "a", whose data fits a schema.
func rulesOf(t testing.TB, schema string) (*PublishRules, error) {
	t.Helper()
	return NewPublishRules([]PublishRule{{Pattern: "a", Schema: schemaFile(t, schema)}})
}

func TestSchemasThatAreRefused(t *testing.T) {
	for _, tt := range []struct{ name, schema, want string }{
		{"no JSON", `{`, "it is not JSON"},
		{"no schema", `{"type": 7}`, "channel a: schema "},
		{"another draft", `{"$schema": "http://json-schema.org/draft-07/schema#"}`, "only https://json-schema.org/draft/2020-12/schema is served"},
		{"another place", `{"$ref": "https://example.com/schema.json"}`, "it refers to https://example.com/schema.json"},
		{"another file", `{"$ref": "file:///etc/passwd"}`, "it refers to file:///etc/passwd"},
		{"another file, beside it", `{"properties": {"x": {"$ref": "other.json"}}}`, "channel a: schema "},
		{"a place that is not there", `{"$ref": "#/$defs/x"}`, "channel a: schema "},
		{"a pattern that is none", `{"pattern": "("}`, "channel a: schema "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := rulesOf(t, tt.schema); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
	if _, err := NewPublishRules([]PublishRule{{Pattern: "a", Schema: "nowhere/schema.json"}}); err == nil || !strings.Contains(err.Error(), "nowhere/schema.json") {
		t.Errorf("no file: %v", err)
	}
}

func TestASchemaMayReferToItself(t *testing.T) {
	rules, err := rulesOf(t, `{
		"$schema": "https://json-schema.org/draft/2020-12/schema",
		"$defs": {"tree": {"type": "array", "items": {"$ref": "#/$defs/tree"}}},
		"$ref": "#/$defs/tree"
	}`)
	if err != nil {
		t.Fatal(err)
	}
	for data, fits := range map[string]bool{`[[],[[]]]`: true, `[[1]]`: false} {
		op := broker.Op{Kind: broker.KindEvent, Channel: "a", Event: sse.Event{Data: []byte(data)}}
		if err := rules.check(&op); (err == nil) != fits {
			t.Errorf("%s: %v", data, err)
		}
	}
}

func TestRulesThatRefuseNothingAreNone(t *testing.T) {
	for name, list := range map[string][]PublishRule{"none": nil, "patterns alone": {{Pattern: "a"}, {Pattern: "b/**"}}} {
		if rules, err := NewPublishRules(list); rules != nil || err != nil {
			t.Errorf("%s: %v, %v", name, rules, err)
		}
	}
	for _, bad := range []PublishRule{{Pattern: "a//b"}, {Pattern: "a", Types: []string{""}}, {Pattern: "a", Types: []string{"x", "x"}}} {
		if _, err := NewPublishRules([]PublishRule{bad}); err == nil || !strings.HasPrefix(err.Error(), "channel") {
			t.Errorf("%+v: got %v", bad, err)
		}
	}
}

// A few bytes can be a number of megabytes, which is compared exactly: an event
// full of them would keep a processor busy for minutes, and some make the
// validator give up.
func TestNumbersThatCostTooMuchAreRefused(t *testing.T) {
	rules, err := NewPublishRules([]PublishRule{{
		Pattern: "**", Schema: schemaFile(t, `{"items": {"type": ["integer", "object"], "minimum": 1}, "minimum": 1}`),
	}})
	if err != nil {
		t.Fatal(err)
	}
	check := func(data string) error {
		return rules.check(&broker.Op{Kind: broker.KindEvent, Channel: "a", Event: sse.Event{Data: []byte(data)}})
	}
	many := func(n string) string { return "[" + strings.Repeat(n+",", 10_000) + n + "]" }
	begun := time.Now()
	for _, data := range []string{
		"1e999999", "1E+999999", "-1e-999999", "1e9999999", "1e99999999999999999999", strings.Repeat("9", 200_000),
		many("1e999999"), `[{"a":[{"b":1e1001}]}]`, "1e-1001",
	} {
		err := check(data)
		if err == nil || !strings.Contains(err.Error(), "beyond all that are checked") || len(err.Error()) > 400 {
			t.Errorf("%.20s: got %.200v", data, err)
		}
	}
	for _, data := range []string{"1e308", "1.7976931348623157e308", "17", many("1e300"), many("9007199254740993"), `[{"a":-0.5e-300}]`} {
		if err := check(data); err != nil {
			t.Errorf("%.20s: got %v", data, err)
		}
	}
	if took := time.Since(begun); took > patience {
		t.Errorf("it took %s", took)
	}
}
