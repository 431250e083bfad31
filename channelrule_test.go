package evstream

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/sse"
)

// schemaFile writes a schema, and returns its path.
func schemaFile(t *testing.T, schema string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "schema.json")
	if err := os.WriteFile(file, []byte(schema), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

const scoreSchema = `{
	"type": "object",
	"required": ["home"],
	"properties": {
		"home": {"type": "integer", "minimum": 0},
		"scorers": {"type": "array", "items": {"type": "string"}},
		"a/b~c": {"const": 9007199254740993}
	},
	"additionalProperties": false
}`

func TestEventsFitTheirChannelHoweverTheyArePublished(t *testing.T) {
	e := newTestEndpoint(t, anyoneMay(t), withLimits(t, BrokerConfig{Channels: []ChannelConfig{
		{Pattern: "score/free"},
		{Pattern: "score/*", EventTypes: []string{"score", "message"}, Schema: schemaFile(t, scoreSchema)},
		{Pattern: "typed/**", EventTypes: []string{"a", "b"}},
		{Pattern: "score/**", EventTypes: []string{"deep"}},
	}}))
	ndjson, stream := []string{"Content-Type: application/x-ndjson"}, []string{"Content-Type: text/event-stream"}
	for _, tt := range []struct {
		name    string
		q       request
		problem string // "" is 200
		pointer string // "-" is none
		detail  string
	}{
		{"fits", request{"POST", "/live/score/1?event=score", nil, `{"home":1}`}, "", "", ""},
		{"fits, without a type", request{"POST", "/live/score/1", nil, `{"home":1}`}, "", "", ""},
		{"fits, by another name of that", request{"POST", "/live/score/1?event=message", nil, `{"home":1}`}, "", "", ""},
		{"another type", request{"POST", "/live/score/1?event=goal", nil, `{"home":1}`}, "event-type", "-", `channel "score/1" takes no event of the type "goal"; the types of score/* are score, message`},
		{"no type where one is needed", request{"POST", "/live/typed/1", nil, `x`}, "event-type", "-", `the type "message"; the types of typed/** are a, b`},
		{"a type, and any data", request{"POST", "/live/typed/1?event=b", nil, `x`}, "", "", ""},
		{"a wrong value", request{"POST", "/live/score/1", nil, `{"home":-1}`}, "schema", "/home", `at "/home": minimum: got -1, want 0`},
		{"a wrong type", request{"POST", "/live/score/1", nil, `{"home":"1"}`}, "schema", "/home", "got string, want integer"},
		{"deep", request{"POST", "/live/score/1", nil, `{"home":1,"scorers":["a",2]}`}, "schema", "/scorers/1", "got number, want string"},
		{"a pointer that needs escapes", request{"POST", "/live/score/1", nil, `{"home":1,"a/b~c":9007199254740992}`}, "schema", "/a~1b~0c", ""},
		{"numbers are exact", request{"POST", "/live/score/1", nil, `{"home":1,"a/b~c":9007199254740993}`}, "", "", ""},
		{"something is missing", request{"POST", "/live/score/1", nil, `{}`}, "schema", "", "missing property 'home'"},
		{"something more", request{"POST", "/live/score/1", nil, `{"home":1,"x":1}`}, "schema", "", "additional properties 'x' not allowed"},
		{"null is a value", request{"POST", "/live/score/1", nil, `null`}, "schema", "", "got null, want object"},
		{"no JSON", request{"POST", "/live/score/1", nil, `home=1`}, "schema", "-", "the data is not JSON"},
		{"two values", request{"POST", "/live/score/1", nil, `{"home":1}{"home":1}`}, "schema", "-", "the data is not JSON"},
		{"nothing", request{"POST", "/live/score/1", nil, ``}, "schema", "-", "the data is not JSON"},
		{"the first pattern decides", request{"POST", "/live/score/free?event=x", nil, `x`}, "", "", ""},
		{"the last pattern", request{"POST", "/live/score/1/x?event=score", nil, `x`}, "event-type", "-", "the types of score/** are deep"},
		{"no pattern", request{"POST", "/live/other?event=x", nil, `x`}, "", "", ""},

		{"an object", request{"POST", "/live/_publish", nil, `{"channel":"score/1","data":{"home":-1}}`}, "schema", "/home", ""},
		{"text that is JSON", request{"POST", "/live/_publish", nil, `{"channel":"score/1","data":"{\"home\":1}"}`}, "", "", ""},
		{"text that is none", request{"POST", "/live/_publish", nil, `{"channel":"score/1","data":"home"}`}, "schema", "-", "not JSON"},
		{"one of an array", request{"POST", "/live/_publish", nil, `[{"channel":"other"},{"channel":"score/1","event":"x"}]`}, "event-type", "-", ""},
		{"one of many channels", request{"POST", "/live/_publish", nil, `{"channels":["other","score/1"],"data":{}}`}, "schema", "", ""},
		{"a line of objects", request{"POST", "/live/_publish", ndjson, `{"channel":"other"}` + "\n" + `{"channel":"score/1","data":{}}`}, "schema", "", ""},
		{"a line", request{"POST", "/live/score/1", ndjson, `{"home":1}` + "\n" + `{"home":-2}`}, "schema", "/home", ""},
		{"an event of a stream", request{"POST", "/live/score/1", stream, "event: score\ndata: {\"home\":1}\n\nevent: goal\ndata: {\"home\":1}\n\n"}, "event-type", "-", ""},

		{"beneath, fits all", request{"POST", "/live/other/", nil, `x`}, "", "", ""},
		{"beneath, does not fit one", request{"POST", "/live/score/?event=score", nil, `{"home":1}`}, "event-type", "-", "the types of score/** are deep"},
		{"beneath, data", request{"POST", "/live/score/", nil, `x`}, "schema", "-", ""},
		{"beneath what is configured", request{"POST", "/live/typed/a/b/?event=c", nil, `x`}, "event-type", "-", ""},
		{"beneath what is configured, fits", request{"POST", "/live/typed/a/b/?event=a", nil, `x`}, "", "", ""},

		{"a purge is no event", request{"DELETE", "/live/score/1?history", nil, ``}, "", "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			resp := ask(t, e, tt.q)
			body := bodyOf(t, resp)
			if tt.problem == "" {
				if resp.StatusCode != 200 {
					t.Fatalf("%d %s", resp.StatusCode, body)
				}
				return
			}
			var doc struct {
				Type, Detail string
				Pointer      *string
			}
			if err := json.Unmarshal([]byte(body), &doc); err != nil {
				t.Fatal(err)
			}
			if resp.StatusCode != 422 || doc.Type != problemURN+tt.problem || !strings.Contains(doc.Detail, tt.detail) {
				t.Errorf("got %d %s, want %s, %s", resp.StatusCode, body, tt.problem, tt.detail)
			}
			switch {
			case tt.pointer == "-" && doc.Pointer != nil, tt.pointer != "-" && (doc.Pointer == nil || *doc.Pointer != tt.pointer):
				t.Errorf("pointer in %s, want %q", body, tt.pointer)
			}
		})
	}
	if got := kept(t, e, "score/1"); strings.Contains(strings.Join(got, " "), "-1") {
		t.Errorf("kept %v", got)
	}
	if e.hub.publishRefusals["schema"] == 0 || e.hub.publishRefusals["event_types"] == 0 {
		t.Errorf("counted %v", e.hub.publishRefusals)
	}
}

func TestALineThatDoesNotFitIsNamed(t *testing.T) {
	e := newTestEndpoint(t, anyoneMay(t), withLimits(t, BrokerConfig{Channels: []ChannelConfig{
		{Pattern: "score/*", Schema: schemaFile(t, scoreSchema)},
	}}))
	doc := wantProblem(t, ask(t, e, request{"POST", "/live/score/1", []string{"Content-Type: application/x-ndjson"}, "{\"home\":1}\n\n{}\n"}), 422, "schema")
	if doc.Published == nil || *doc.Published != 1 || doc.Line != 3 {
		t.Errorf("%+v", doc)
	}
	doc = wantProblem(t, ask(t, e, request{"POST", "/live/_publish", nil, `[{"channel":"a"},{"channel":"score/1"}]`}), 422, "schema")
	if doc.Published == nil || *doc.Published != 0 || doc.Event != 2 {
		t.Errorf("%+v", doc)
	}
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
			c := BrokerConfig{Channels: []ChannelConfig{{Pattern: "a", Schema: schemaFile(t, tt.schema)}}}
			if _, err := c.channelRules(); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
	c := BrokerConfig{Channels: []ChannelConfig{{Pattern: "a", Schema: "nowhere/schema.json"}}}
	if _, err := c.channelRules(); err == nil || !strings.Contains(err.Error(), "nowhere/schema.json") {
		t.Errorf("no file: %v", err)
	}
}

func TestASchemaMayReferToItself(t *testing.T) {
	c := BrokerConfig{Channels: []ChannelConfig{{Pattern: "a", Schema: schemaFile(t, `{
		"$schema": "https://json-schema.org/draft/2020-12/schema",
		"$defs": {"tree": {"type": "array", "items": {"$ref": "#/$defs/tree"}}},
		"$ref": "#/$defs/tree"
	}`)}}}
	rules, err := c.channelRules()
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

// The limits and the rules of a new configuration hold once it runs, and those
// of one that fails never do.
func TestChannelRulesChangeWithAReload(t *testing.T) {
	address := freeAddress(t)
	config := func(types, more string) string {
		return site(address, "\tevstream {\n\t\tchannel a {\n\t\t\tevent_types "+types+"\n\t\t}\n\t}", allowAnything) + more
	}
	load(t, config("one", ""))
	url := "http://" + address + "/live/a?event="
	check := func(typ string, want int) {
		t.Helper()
		resp, err := client.Post(url+typ, "text/plain", strings.NewReader("x"))
		for until := time.Now().Add(patience); err != nil; { // a reload may close a connection before its request is read
			if time.Now().After(until) {
				t.Fatal(err)
			}
			resp, err = client.Post(url+typ, "text/plain", strings.NewReader("x"))
		}
		defer resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("%s: %d", typ, resp.StatusCode)
		}
	}
	check("one", 200)
	check("two", 422)
	if err := reload(t, config("two", "")); err != nil {
		t.Fatal(err)
	}
	check("one", 422)
	check("two", 200)
	if err := reload(t, site(address, "\tevstream {\n\t\tchannel a {\n\t\t\tschema /nowhere.json\n\t\t}\n\t}", allowAnything)); err == nil || !strings.Contains(err.Error(), "/nowhere.json") {
		t.Fatalf("a schema that is not there: %v", err)
	}
	check("two", 200)
	if err := reload(t, config("one", "http://127.0.0.1:1 {\n\tevstream {\n\t\tbroker default\n\t\tbearer x {env.NOT_SET_ANYWHERE}\n\t\tallow x all **\n\t}\n}\n")); err == nil {
		t.Fatal("a configuration without its secret runs")
	}
	check("one", 422)
	check("two", 200)
}

func TestTheAdminEndpointIsHeldToWhatChannelsTake(t *testing.T) {
	address, admin := freeAddress(t), freeAddress(t)
	load(t, withAdmin(admin, address, "\tevstream {\n\t\tpublish_rate 1 1\n\t\tchannel a {\n\t\t\tevent_types one\n\t\t}\n\t}", allowAnything))
	if status, body := post(t, "http://"+admin+"/evstream/a", "x"); status != 422 {
		t.Errorf("%d %s", status, body)
	}
	for range 5 {
		if status, body := post(t, "http://"+admin+"/evstream/a?event=one", "x"); status != 200 {
			t.Errorf("%d %s", status, body)
		}
	}
}

// A few bytes can be a number of megabytes, which is compared exactly: an event
// full of them would keep a processor busy for minutes, and some make the
// validator give up.
func TestNumbersThatCostTooMuchAreRefused(t *testing.T) {
	schema, err := compileSchema(schemaFile(t, `{"items": {"type": ["integer", "object"], "minimum": 1}, "minimum": 1}`))
	if err != nil {
		t.Fatal(err)
	}
	pattern, err := broker.ParsePattern("**")
	if err != nil {
		t.Fatal(err)
	}
	rules := channelRules{{pattern: pattern, schema: schema}}
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
	if took := time.Since(begun); took > 5*time.Second {
		t.Errorf("it took %s", took)
	}
}
