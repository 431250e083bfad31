package hub

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/problem"
	"github.com/evstream/caddy-evstream/sse"
)

func TestChecksAgainstSchemasLeaveACore(t *testing.T) {
	for cores, want := range map[int]int{1: 1, 2: 1, 8: 7} {
		if n := cap(newSchemaTurns(cores).running); n != want {
			t.Errorf("of %d cores %d check, want %d", cores, n, want)
		}
	}
}

func TestChecksAgainstSchemasWaitForTheirTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		turns := newSchemaTurns(2)
		if err := turns.acquire(t.Context()); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, maxSchemaWaiting)
		for range maxSchemaWaiting - 1 {
			go func() { ended <- turns.acquire(ctx) }()
		}
		next := make(chan error, 1)
		go func() { next <- turns.acquire(t.Context()) }()
		synctest.Wait()
		p, ok := errors.AsType[*problem.Error](turns.acquire(t.Context()))
		if !ok || p.Kind != problem.Overloaded {
			t.Errorf("one too many: %v", p)
		}
		cancel()
		for range maxSchemaWaiting - 1 {
			if err := <-ended; !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		}
		turns.release()
		if err := <-next; err != nil {
			t.Error(err)
		}
		turns.release()
		if n := turns.waiting.Load(); n != 0 || len(turns.running) != 0 {
			t.Errorf("%d wait, %d run", n, len(turns.running))
		}
	})
}

// alike is a JSON array of n different arrays of strings for which the validator
// computes the same hash: it takes \x04 for where a string begins.
func alike(n int) string {
	items := make([]string, n)
	for i := range items {
		item := `["x`
		for bit := range 14 {
			if i>>bit&1 == 0 {
				item += `","x`
			} else {
				item += `\u0004x`
			}
		}
		items[i] = item + `"]`
	}
	return "[" + strings.Join(items, ",") + "]"
}

// With uniqueItems the validator compares elements of the same hash with each other,
// and whoever publishes can make them so.
func TestASchemaWithUniqueItemsTakesNoLongArrayOfArrays(t *testing.T) {
	event := func(data string) *broker.Op {
		return &broker.Op{Kind: broker.KindEvent, Channel: "a", Event: sse.Event{Data: []byte(data)}}
	}
	var numbers string
	for i := range 5 * maxUnique {
		numbers += fmt.Sprintf("%d,", i)
	}
	long := "[" + strings.TrimSuffix(numbers, ",") + "]"
	rules := func(schema string) *PublishRules {
		r, err := rulesOf(t, schema)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	unique := rules(`{"properties": {"a": {"items": {"uniqueItems": true}}}}`)
	for data, want := range map[string]string{
		`{"a": [` + alike(maxUnique) + `]}`:        "",
		`{"a": [` + alike(maxUnique+1) + `]}`:      "at most 1000 arrays and objects",
		`{"a": [` + long + `]}`:                    "",
		`{"a": [[[1, 2], [1, 2]]]}`:                "are equal",
		`[{"b": ` + alike(maxUnique+1) + `}, "a"]`: "at most 1000 arrays and objects",
	} {
		err := unique.check(event(data))
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%.20s…: %v, want %q", data, err, want)
		}
	}
	if err := rules(`{"type": "array", "uniqueItems": false}`).check(event(alike(maxUnique + 1))); err != nil {
		t.Error(err)
	}
}

// BenchmarkSchema tells what data of 64 and 256 KiB takes to check. "alike" is what costs
// most of what is let through.
func BenchmarkSchema(b *testing.B) {
	objects := func(n int) string {
		return "[" + strings.TrimSuffix(strings.Repeat(`{"a":1,"b":"xxxxxxxx"},`, n/23), ",") + "]"
	}
	strs := func(n int) string {
		return `["` + strings.Repeat("a", n-4) + `"]`
	}
	deep := func(n int) string {
		n /= 32 // more than 10,000 levels are not JSON
		return strings.Repeat("[", n) + strings.Repeat("]", n)
	}
	numbers := func(n int) string {
		var s strings.Builder
		for i := 0; s.Len() < n; i++ {
			fmt.Fprintf(&s, ",%d", i)
		}
		return "[" + s.String()[1:] + "]"
	}
	for name, of := range map[string]struct {
		schema string
		data   func(int) string
	}{
		"properties":       {`{"items": {"properties": {"a": {"minimum": 0}}, "required": ["a"]}}`, objects},
		"pattern":          {`{"items": {"pattern": "^(a+)+$"}}`, strs},
		"contains":         {`{"contains": {"const": -1}, "minContains": 0}`, numbers},
		"dependentSchemas": {`{"items": {"dependentSchemas": {"a": {"required": ["b"]}}}}`, objects},
		"oneOf":            {`{"items": {"oneOf": [{"required": ["a"]}, {"required": ["c"]}]}}`, objects},
		"unevaluated":      {`{"items": {"properties": {"a": true, "b": true}, "unevaluatedProperties": false}}`, objects},
		"ref":              {`{"items": {"$ref": "#"}}`, deep},
		"unique numbers":   {`{"uniqueItems": true}`, numbers},
		"unique alike":     {`{"uniqueItems": true}`, func(n int) string { return alike(min(n/100, maxUnique)) }},
	} {
		for _, size := range []int{64 << 10, 256 << 10} {
			b.Run(fmt.Sprintf("%s/%dKiB", name, size>>10), func(b *testing.B) {
				rules, err := rulesOf(b, of.schema)
				if err != nil {
					b.Fatal(err)
				}
				op := &broker.Op{Kind: broker.KindEvent, Channel: "a", Event: sse.Event{Data: []byte(of.data(size))}}
				b.SetBytes(int64(len(op.Event.Data)))
				for b.Loop() {
					_ = rules.check(op)
				}
			})
		}
	}
}
