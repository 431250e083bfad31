package httpapi

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/hub"
)

// hubSchema is the schema of the channels of scores.
const hubSchema = `{
	"type": "object",
	"required": ["home"],
	"properties": {
		"home": {"type": "integer", "minimum": 0},
		"scorers": {"type": "array", "items": {"type": "string"}},
		"a/b~c": {"const": 9007199254740993}
	},
	"additionalProperties": false
}`

// hubSchemaFile writes hubSchema, and returns its path.
func hubSchemaFile(t *testing.T) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "schema.json")
	if err := os.WriteFile(file, []byte(hubSchema), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// hubRules serves channels with rules.
func hubRules(t *testing.T, list ...hub.PublishRule) *Handler {
	t.Helper()
	rules, err := hub.NewPublishRules(list)
	if err != nil {
		t.Fatal(err)
	}
	return hubHandler(t, hubSetup{hub: hub.Config{Rules: rules}})
}

// deliveriesOf are the events that a channel keeps.
func deliveriesOf(t *testing.T, e *Handler, channel string) (list []broker.Delivery) {
	t.Helper()
	sub, err := e.hub.Broker().Subscribe(broker.SubscribeOptions{
		Channels: []string{channel}, Start: broker.Start{Earliest: true},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer sub.Close()
	batch := broker.Batch{Decode: true, More: true}
	for batch.More {
		if err := sub.Read(&batch); err != nil {
			t.Fatal(err)
		}
		list = append(list, batch.Deliveries...)
	}
	return list
}

// hubKept are the events that a channel keeps, as type:data.
func hubKept(t *testing.T, e *Handler, channel string) (list []string) {
	t.Helper()
	for _, d := range deliveriesOf(t, e, channel) {
		list = append(list, d.Event.Type+":"+string(d.Event.Data))
	}
	return list
}

func TestEventsFitTheirChannelHoweverTheyArePublished(t *testing.T) {
	e := hubRules(t,
		hub.PublishRule{Pattern: "score/free"},
		hub.PublishRule{Pattern: "score/*", Types: []string{"score", "message"}, Schema: hubSchemaFile(t)},
		hub.PublishRule{Pattern: "typed/**", Types: []string{"a", "b"}},
		hub.PublishRule{Pattern: "score/**", Types: []string{"deep"}},
	)
	const ndjson, stream = "application/x-ndjson", "text/event-stream"
	type request struct{ method, path, content, body string }
	for _, tt := range []struct {
		name    string
		q       request
		problem string // "" is 200
		pointer string // "-" is none
		detail  string
	}{
		{"fits", request{"POST", "/live/score/1?event=score", "", `{"home":1}`}, "", "", ""},
		{"fits, without a type", request{"POST", "/live/score/1", "", `{"home":1}`}, "", "", ""},
		{"fits, by another name of that", request{"POST", "/live/score/1?event=message", "", `{"home":1}`}, "", "", ""},
		{"another type", request{"POST", "/live/score/1?event=goal", "", `{"home":1}`}, "event-type", "-", `channel "score/1" takes no event of the type "goal"; the types of score/* are score, message`},
		{"no type where one is needed", request{"POST", "/live/typed/1", "", `x`}, "event-type", "-", `the type "message"; the types of typed/** are a, b`},
		{"a type, and any data", request{"POST", "/live/typed/1?event=b", "", `x`}, "", "", ""},
		{"a wrong value", request{"POST", "/live/score/1", "", `{"home":-1}`}, "schema", "/home", `at "/home": minimum: got -1, want 0`},
		{"a wrong type", request{"POST", "/live/score/1", "", `{"home":"1"}`}, "schema", "/home", "got string, want integer"},
		{"deep", request{"POST", "/live/score/1", "", `{"home":1,"scorers":["a",2]}`}, "schema", "/scorers/1", "got number, want string"},
		{"a pointer that needs escapes", request{"POST", "/live/score/1", "", `{"home":1,"a/b~c":9007199254740992}`}, "schema", "/a~1b~0c", ""},
		{"numbers are exact", request{"POST", "/live/score/1", "", `{"home":1,"a/b~c":9007199254740993}`}, "", "", ""},
		{"something is missing", request{"POST", "/live/score/1", "", `{}`}, "schema", "", "missing property 'home'"},
		{"something more", request{"POST", "/live/score/1", "", `{"home":1,"x":1}`}, "schema", "", "additional properties 'x' not allowed"},
		{"null is a value", request{"POST", "/live/score/1", "", `null`}, "schema", "", "got null, want object"},
		{"no JSON", request{"POST", "/live/score/1", "", `home=1`}, "schema", "-", "the data is not JSON"},
		{"two values", request{"POST", "/live/score/1", "", `{"home":1}{"home":1}`}, "schema", "-", "the data is not JSON"},
		{"nothing", request{"POST", "/live/score/1", "", ``}, "schema", "-", "the data is not JSON"},
		{"the first pattern decides", request{"POST", "/live/score/free?event=x", "", `x`}, "", "", ""},
		{"the last pattern", request{"POST", "/live/score/1/x?event=score", "", `x`}, "event-type", "-", "the types of score/** are deep"},
		{"no pattern", request{"POST", "/live/other?event=x", "", `x`}, "", "", ""},

		{"an object", request{"POST", "/live/_publish", "", `{"channel":"score/1","data":{"home":-1}}`}, "schema", "/home", ""},
		{"text that is JSON", request{"POST", "/live/_publish", "", `{"channel":"score/1","data":"{\"home\":1}"}`}, "", "", ""},
		{"text that is none", request{"POST", "/live/_publish", "", `{"channel":"score/1","data":"home"}`}, "schema", "-", "not JSON"},
		{"one of an array", request{"POST", "/live/_publish", "", `[{"channel":"other"},{"channel":"score/1","event":"x"}]`}, "event-type", "-", ""},
		{"one of many channels", request{"POST", "/live/_publish", "", `{"channels":["other","score/1"],"data":{}}`}, "schema", "", ""},
		{"a line of objects", request{"POST", "/live/_publish", ndjson, `{"channel":"other"}` + "\n" + `{"channel":"score/1","data":{}}`}, "schema", "", ""},
		{"a line", request{"POST", "/live/score/1", ndjson, `{"home":1}` + "\n" + `{"home":-2}`}, "schema", "/home", ""},
		{"an event of a stream", request{"POST", "/live/score/1", stream, "event: score\ndata: {\"home\":1}\n\nevent: goal\ndata: {\"home\":1}\n\n"}, "event-type", "-", ""},

		{"beneath, fits all", request{"POST", "/live/other/", "", `x`}, "", "", ""},
		{"beneath, does not fit one", request{"POST", "/live/score/?event=score", "", `{"home":1}`}, "event-type", "-", "the types of score/** are deep"},
		{"beneath, data", request{"POST", "/live/score/", "", `x`}, "schema", "-", ""},
		{"beneath what is configured", request{"POST", "/live/typed/a/b/?event=c", "", `x`}, "event-type", "-", ""},
		{"beneath what is configured, fits", request{"POST", "/live/typed/a/b/?event=a", "", `x`}, "", "", ""},

		{"a purge is no event", request{"DELETE", "/live/score/1?history", "", ``}, "", "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var header []string
			if tt.q.content != "" {
				header = append(header, "Content-Type: "+tt.q.content)
			}
			resp := hubAnswer(t, e, tt.q.method, tt.q.path, tt.q.body, header...)
			if tt.problem == "" {
				if resp.StatusCode != http.StatusOK {
					t.Fatalf("%d %s", resp.StatusCode, hubBody(t, resp))
				}
				return
			}
			doc := hubProblem(t, resp, 422, tt.problem)
			if !strings.Contains(doc.Detail, tt.detail) {
				t.Errorf("got %s, want %s", doc.Detail, tt.detail)
			}
			switch {
			case tt.pointer == "-" && doc.Pointer != nil, tt.pointer != "-" && (doc.Pointer == nil || *doc.Pointer != tt.pointer):
				t.Errorf("pointer in %+v, want %q", doc, tt.pointer)
			}
		})
	}
	if got := hubKept(t, e, "score/1"); strings.Contains(strings.Join(got, " "), "-1") {
		t.Errorf("kept %v", got)
	}
	if counted := e.hub.Stats().PublishRefusals; counted["schema"] == 0 || counted["event_types"] == 0 {
		t.Errorf("counted %v", counted)
	}
}

func TestALineThatDoesNotFitIsNamed(t *testing.T) {
	e := hubRules(t, hub.PublishRule{Pattern: "score/*", Schema: hubSchemaFile(t)})
	doc := hubProblem(t, hubAnswer(t, e, "POST", "/live/score/1", "{\"home\":1}\n\n{}\n", "Content-Type: application/x-ndjson"), 422, "schema")
	if doc.Published == nil || *doc.Published != 1 || doc.Line != 3 {
		t.Errorf("%+v", doc)
	}
	doc = hubProblem(t, hubAnswer(t, e, "POST", "/live/_publish", `[{"channel":"a"},{"channel":"score/1"}]`), 422, "schema")
	if doc.Published == nil || *doc.Published != 0 || doc.Event != 2 {
		t.Errorf("%+v", doc)
	}
}
