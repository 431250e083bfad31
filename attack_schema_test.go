package evstream

import (
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// withSchema has channels whose data has to be a list of numbers.
func withSchema(t *testing.T) func(*siteConfig) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "schema.json")
	if err := os.WriteFile(file, []byte(`{"type":"array","items":{"type":"number"}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	return func(c *siteConfig) {
		c.broker.Channels = []ChannelConfig{
			{Pattern: "list/**", Schema: file},
			{Pattern: "typed/named", EventTypes: []string{"score", "typed/named"}},
			{Pattern: "typed/**", EventTypes: []string{"score"}},
		}
	}
}

// What is too large is refused for its size, before it is parsed, and what does not fit
// costs no more than to find that out.
func TestDataThatDoesNotFitCostsNoMoreThanTheFirstError(t *testing.T) {
	eachServer(t, func(t *testing.T, on server) {
		e := on.start(t, withRules("anyone subscribe,publish,state **"), withSchema(t))
		bad := func(size int) string { return "[" + strings.Repeat(`"",`, size/3-2) + `""]` }
		wantProblem(t, ask(t, e, asBackend("POST", "/live/list/a", bad(1<<20-10))), 413, "too-large")
		for _, size := range []int{100, 250 << 10} {
			body := bad(size)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			doc := wantProblem(t, ask(t, e, asBackend("POST", "/live/list/a", body)), 422, "schema")
			runtime.ReadMemStats(&after)
			if small := strings.Contains(doc.Detail, `at "/0"`); small != (size < 1000) {
				t.Errorf("of %d bytes it is said: %s", size, doc.Detail)
			}
			// It takes about 40 MB, half of it to read the data, and with all 83,000 errors described 74 MB.
			if used := (after.TotalAlloc - before.TotalAlloc) >> 20; used > 60 {
				t.Errorf("%d bytes that do not fit have taken %d MB", size, used)
			}
		}
	})
}

// What a channel takes is the same for its events and for its value, whichever way that
// is written.
func TestWhatAChannelTakesHoldsForValues(t *testing.T) {
	eachServer(t, func(t *testing.T, on server) {
		e := on.start(t, withRules("anyone subscribe,publish,state **"), withSchema(t))
		const patch = "Content-Type: application/json-patch+json"
		put(t, e, "/live/list/a", "[1, 2]")
		put(t, e, "/live/typed/named", "1")
		for name, tt := range map[string]struct {
			q       request
			problem string
		}{
			"PUT":              {asBackend("PUT", "/live/list/a", `["x"]`), "schema"},
			"PATCH":            {asBackend("PATCH", "/live/list/a", `[{"op":"add","path":"/-","value":"x"}]`, patch), "schema"},
			"incr":             {asBackend("PATCH", "/live/list/b?incr=1", ""), "schema"},
			"merge patch":      {asBackend("PATCH", "/live/list/a", `{"a":1}`, "Content-Type: application/merge-patch+json"), "schema"},
			"a batch":          {asBackend("POST", "/live/_publish", `[{"channel":"list/a","state":{}}]`), "schema"},
			"a type":           {asBackend("PUT", "/live/typed/a", "1"), "event-type"},
			"a type, by patch": {asBackend("PATCH", "/live/typed/a?incr=1", ""), "event-type"},
		} {
			if doc := wantProblem(t, ask(t, e, tt.q), 422, tt.problem); doc.Detail == "" {
				t.Errorf("%s: no detail", name)
			}
		}
		if resp := ask(t, e, asBackend("PATCH", "/live/list/a", `[{"op":"add","path":"/-","value":3}]`, patch)); resp.StatusCode != http.StatusOK {
			t.Errorf("a patch that fits: %d %s", resp.StatusCode, bodyOf(t, resp))
		}
		if got := strings.TrimSpace(bodyOf(t, ask(t, e, asBackend("GET", "/live/list/a", "", asJSON)))); got != "[1,2,3]" {
			t.Errorf("the value is %s", got)
		}
		if resp := ask(t, e, asBackend("DELETE", "/live/list/a", "")); resp.StatusCode != http.StatusOK {
			t.Errorf("removing the value: %d", resp.StatusCode)
		}
	})
}

// Of a member that is there twice the schema was held to the last one only, and a reader
// that takes the first got what nobody had checked.
func TestAMemberThatIsThereTwiceFitsNoSchema(t *testing.T) {
	eachServer(t, func(t *testing.T, on server) {
		file := filepath.Join(t.TempDir(), "schema.json")
		if err := os.WriteFile(file, []byte(`{"properties":{"role":{"enum":["user"]}}}`), 0o600); err != nil {
			t.Fatal(err)
		}
		e := on.start(t, withRules("anyone subscribe,publish,state **"), func(c *siteConfig) {
			c.broker.Channels = []ChannelConfig{{Pattern: "checked/**", Schema: file}}
		})
		const events, stream = "Content-Type: application/x-ndjson", "Content-Type: text/event-stream"
		for _, bad := range []string{
			`{"role":"admin","role":"user"}`, `{"role":"admin","\u0072ole":"user"}`, `{"role":"user","a":[{"x":{"b":":","b":1}}]}`, ` { "a\"" : 1 , "a\"" : 1 } `,
		} {
			for _, q := range []request{
				{"POST", "/live/checked/a", nil, bad},
				{"POST", "/live/checked/a", []string{events}, bad},
				{"POST", "/live/checked/a", []string{stream}, "data: " + bad + "\n\n"},
				{"POST", "/live/checked/", nil, bad},
				{"POST", "/live/_publish", nil, `{"channel":"checked/a","data":` + bad + `}`},
				{"POST", "/live/_publish", nil, `[{"channel":"checked/a","data":` + quoteJSON(t, bad) + `}]`},
			} {
				if doc := wantProblem(t, ask(t, e, q), 422, "schema"); !strings.Contains(doc.Detail, "twice") {
					t.Errorf("%s: %s", bad, doc.Detail)
				}
			}
			wantProblem(t, ask(t, e, request{"PUT", "/live/checked/a", nil, bad}), 400, "bad-state")
			if resp := ask(t, e, request{"POST", "/live/free", nil, bad}); resp.StatusCode != 200 {
				t.Errorf("without a schema: %d", resp.StatusCode)
			}
		}
		for _, good := range []string{`{"role":"user","a":{"role":":"},"b":[{"c":1},{"c":2}],"\\":"\"","\"":":"}`, `"role:role"`, `[]`, ` {} `} {
			if resp := ask(t, e, request{"POST", "/live/checked/a", nil, good}); resp.StatusCode != 200 {
				t.Errorf("%s: %s", good, bodyOf(t, resp))
			}
		}
	})
}
