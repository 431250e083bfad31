package evstream

import (
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/evstream/caddy-evstream/problem"
)

// withState adds rules by which values may be written.
func withState(c *siteConfig) {
	c.handler.Allow = append(rulesOf("backend state **", "guest state public/**"), c.handler.Allow...)
}

const asJSON = "Accept: application/json"

// put sets a value as the backend, and returns its ETag.
func put(t *testing.T, e *testSite, path, value string, header ...string) string {
	t.Helper()
	resp := ask(t, e, asBackend("PUT", path, value, header...))
	if resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusCreated {
		t.Fatalf("PUT %s: %d %s", path, resp.StatusCode, bodyOf(t, resp))
	}
	return resp.Header.Get("ETag")
}

func TestAValueIsWrittenAndRead(t *testing.T) {
	eachServer(t, func(t *testing.T, on server) {
		e := on.start(t, withState)
		var tags []string
		for i, step := range []struct {
			name string
			req  request
			// In want and in headers, #n is the n-th ETag that was new, from 1.
			status int
			want   string
			etag   string
		}{
			{"nothing yet", asBackend("GET", "/live/a", "", asJSON), 404, "no-state", ""},
			{"nothing yet, HEAD", asBackend("HEAD", "/live/a", "", asJSON), 404, "no-state", ""},
			{"created", asBackend("PUT", "/live/a", " 42\n"), 201, `{"id":#1}`, "#1"},
			{"as curl sends it", asBackend("PUT", "/live/a", "42.0", "Content-Type: application/x-www-form-urlencoded"), 200, `{"id":#1}`, "#1"},
			{"read", asBackend("GET", "/live/a", "", asJSON), 200, `42`, "#1"},
			{"head", asBackend("HEAD", "/live/a", "", asJSON), 200, ``, "#1"},
			{"read again", asBackend("GET", "/live/a", "", asJSON, "If-None-Match: #1"), 304, ``, "#1"},
			{"read again, weakly", asBackend("GET", "/live/a", "", asJSON, `If-None-Match: "x", W/#1`), 304, ``, "#1"},
			{"read again, any", asBackend("GET", "/live/a", "", asJSON, `If-None-Match: *`), 304, ``, "#1"},
			{"read another", asBackend("GET", "/live/a", "", asJSON, `If-None-Match: "1-1"`), 200, `42`, "#1"},
			{"read that one", asBackend("GET", "/live/a", "", asJSON, `If-Match: "1-1"`), 412, `precondition-failed`, "#1"},
			{"created again", asBackend("PUT", "/live/a", "1", "If-None-Match: *"), 412, `precondition-failed`, "#1"},
			{"created elsewhere", asBackend("PUT", "/live/b", "1", "If-None-Match: *"), 201, `{"id":#2}`, "#2"},
			{"of another version", asBackend("PUT", "/live/a", "1", "If-Match: #2"), 412, `precondition-failed`, "#1"},
			{"of that version, weakly", asBackend("PUT", "/live/a", "1", "If-Match: W/#1"), 412, `precondition-failed`, "#1"},
			{"of that version", asBackend("PUT", "/live/a", `{"n": 9223372036854775808, "f":0.10}`, `If-Match: "x", #1`), 200, `{"id":#3}`, "#3"},
			{"digits", asBackend("GET", "/live/a", "", asJSON), 200, `{"n":9223372036854775808,"f":0.10}`, "#3"},
			{"of any version", asBackend("PUT", "/live/a", "7", `If-Match: *`), 200, `{"id":#4}`, "#4"},
			{"of no version", asBackend("PUT", "/live/none", "7", `If-Match: *`), 412, `precondition-failed`, ""},
			{"incremented", asBackend("PATCH", "/live/a?incr=1", ""), 200, `{"id":#5,"value":8}`, "#5"},
			{"by a half", asBackend("PATCH", "/live/a?incr=-0.5", "", "If-Match: #5"), 200, `{"id":#6,"value":7.5}`, "#6"},
			{"with a plus", asBackend("PATCH", "/live/a?incr=+0.5", ""), 200, `{"id":#7,"value":8}`, "#7"},
			{"by nothing", asBackend("PATCH", "/live/a?incr=0", ""), 200, `{"id":#7,"value":8}`, "#7"},
			{"of another version", asBackend("PATCH", "/live/a?incr=1", "", "If-Match: #5"), 412, `precondition-failed`, "#7"},
			{"from nothing", asBackend("PATCH", "/live/count?incr=2", ""), 201, `{"id":#8,"value":2}`, "#8"},
			{"merged of nothing", asBackend("PATCH", "/live/m", `{"a":{"b":1},"c":null}`, "Content-Type: application/merge-patch+json"), 201, `{"id":#9}`, "#9"},
			{"merged", asBackend("PATCH", "/live/m", `{"a":{"c":0.10}}`, "Content-Type: Application/Merge-Patch+JSON; charset=utf-8"), 200, `{"id":#10}`, "#10"},
			{"patched", asBackend("PATCH", "/live/m", `[{"op":"test","path":"/a/b","value":1.0},{"op":"add","path":"/l","value":[1]}]`, "Content-Type: application/json-patch+json"), 200, `{"id":#11}`, "#11"},
			{"what came of it", asBackend("GET", "/live/m", "", asJSON), 200, `{"a":{"b":1,"c":0.10},"l":[1]}`, "#11"},
			{"removed, of another version", asBackend("DELETE", "/live/m", "", "If-Match: #10"), 412, `precondition-failed`, "#11"},
			{"removed", asBackend("DELETE", "/live/m", "", "If-Match: #11"), 200, `{"id":ID}`, ""},
			{"removed again", asBackend("DELETE", "/live/m", ""), 404, `no-state`, ""},
			{"removed again, of a version", asBackend("DELETE", "/live/m", "", "If-Match: #11"), 412, `precondition-failed`, ""},
			{"patched, of nothing", asBackend("PATCH", "/live/m", `[]`, "Content-Type: application/json-patch+json"), 404, `no-state`, ""},
			{"null is a value", asBackend("PUT", "/live/m", `null`), 201, `{"id":#12}`, "#12"},
			{"and is read", asBackend("GET", "/live/m", "", asJSON), 200, `null`, "#12"},
		} {
			fill := strings.NewReplacer(replacements(tags)...)
			for j := range step.req.header {
				step.req.header[j] = fill.Replace(step.req.header[j])
			}
			resp := ask(t, e, step.req)
			tag := resp.Header.Get("ETag")
			if step.etag == "#"+strconv.Itoa(len(tags)+1) {
				tags = append(tags, tag)
				fill = strings.NewReplacer(replacements(tags)...)
			}
			if want := fill.Replace(step.etag); resp.StatusCode != step.status || tag != want {
				t.Fatalf("step %d, %s: %d with ETag %s, want %d with %s: %s", i, step.name, resp.StatusCode, tag, step.status, want, bodyOf(t, resp))
			}
			if cache := resp.Header.Get("Cache-Control"); tag != "" && !strings.Contains(cache, "no-transform") {
				t.Errorf("%s: an ETag, and Cache-Control %q", step.name, cache)
			}
			if step.req.method == "HEAD" { // the answer has no body
				continue
			}
			if step.status >= 400 {
				wantProblemBody(t, resp, step.want)
				continue
			}
			if got := anyID.ReplaceAllString(bodyOf(t, resp), "ID"); got != anyID.ReplaceAllString(fill.Replace(step.want), "ID") && step.want != "" {
				t.Errorf("%s: %s, want %s", step.name, got, fill.Replace(step.want))
			}
		}
	})
}

// wantProblemBody checks the type of a problem whose status was checked.
func wantProblemBody(t *testing.T, resp *http.Response, name string) {
	t.Helper()
	if body := bodyOf(t, resp); !strings.Contains(body, `"type":"`+problem.URN+name+`"`) {
		t.Errorf("the problem is %s, want %s", body, name)
	}
}

func replacements(tags []string) (list []string) {
	for i, tag := range slices.Backward(tags) { // #10 before #1
		list = append(list, "#"+strconv.Itoa(i+1), tag)
	}
	return list
}

func TestBadWritesOfStateAreToldAndChangeNothing(t *testing.T) {
	eachServer(t, func(t *testing.T, on server) {
		const (
			merge = "Content-Type: application/merge-patch+json"
			patch = "Content-Type: application/json-patch+json"
		)
		e := on.start(t, withState, func(c *siteConfig) { c.broker.MaxStates = 2 })
		tag := put(t, e, "/live/a", `{"n":1,"s":"x","l":[1,2]}`)
		put(t, e, "/live/b", `1`)
		deep := strings.Repeat("[", 65) + strings.Repeat("]", 65)
		for name, tt := range map[string]struct {
			method, path, body string
			header             []string
			status             int
			kind, says         string
		}{
			"nobody":                {"PUT", "/live/a", "1", nil, 401, "unauthorized", `no permission to write values (state)`},
			"somebody else":         {"PUT", "/live/a", "1", []string{"Authorization: Bearer " + guestSecret}, 403, "forbidden", `no permission to write values (state)`},
			"reading, nobody":       {"GET", "/live/a", "", []string{asJSON}, 401, "unauthorized", "no permission to subscribe"},
			"a pattern":             {"PUT", "/live/a*", "1", []string{"@"}, 400, "bad-channel", "is not allowed"},
			"reading a pattern":     {"GET", "/live/a*", "", []string{"@", asJSON}, 400, "bad-channel", "is not allowed"},
			"beneath":               {"PUT", "/live/a/", "1", []string{"@"}, 405, "bad-method", "POST"},
			"the hub's":             {"PUT", "/live/evstream.gap", "1", []string{"@"}, 400, "bad-channel", "has no state"},
			"another origin":        {"PUT", "/live/a", "1", []string{"@", "Origin: https://evil.example", "Sec-Fetch-Site: cross-site"}, 403, "cross-origin", "another origin"},
			"compressed":            {"PUT", "/live/a", "1", []string{"@", "Content-Encoding: gzip"}, 415, "bad-media", "as it is"},
			"nothing":               {"PUT", "/live/a", "", []string{"@"}, 400, "bad-state", "it is empty"},
			"no JSON":               {"PUT", "/live/a", "{a}", []string{"@"}, 400, "bad-state", "malformed at byte 2"},
			"two of a name":         {"PUT", "/live/a", `{"x":{"a":1,"a":1}}`, []string{"@"}, 400, "bad-state", "/x/a is there twice"},
			"no text":               {"PUT", "/live/a", "\"\xff\"", []string{"@"}, 400, "bad-state", "UTF-8"},
			"half a character":      {"PUT", "/live/a", `"\ud800"`, []string{"@"}, 400, "bad-state", "surrogate"},
			"too deep":              {"PUT", "/live/a", deep, []string{"@"}, 422, "unprocessable", "64 levels deep"},
			"too large":             {"PUT", "/live/a", `"` + strings.Repeat("x", 64<<10) + `"`, []string{"@"}, 413, "too-large", "65538 bytes, at most 65536"},
			"far too large":         {"PUT", "/live/a", `"` + strings.Repeat("x", 1<<20) + `"`, []string{"@"}, 413, "too-large", "1048576"},
			"too many":              {"PUT", "/live/c", "1", []string{"@"}, 507, "state-full", "no room"},
			"too many, counting":    {"PATCH", "/live/c?incr=1", "", []string{"@"}, 507, "state-full", "no room"},
			"two conditions":        {"PUT", "/live/a", "1", []string{"@", "If-Match: *", "If-None-Match: *"}, 400, "bad-precondition", "do not go together"},
			"a bad tag":             {"PUT", "/live/a", "1", []string{"@", "If-Match: x"}, 400, "bad-precondition", "in quotes"},
			"an open tag":           {"PUT", "/live/a", "1", []string{"@", `If-None-Match: "x`}, 400, "bad-precondition", "in quotes"},
			"an empty tag":          {"PUT", "/live/a", "1", []string{"@", `If-Match: `}, 400, "bad-precondition", "is empty"},
			"a bad key":             {"PUT", "/live/a", "1", []string{"@", "Idempotency-Key: a b"}, 400, "bad-key", "visible"},
			"no such session":       {"PUT", "/live/a?session=nobody", "1", []string{"@"}, 404, "no-session", "no such session"},
			"an empty session":      {"PUT", "/live/a?session=", "1", []string{"@"}, 400, "bad-parameter", "names one session"},
			"a session, removed":    {"DELETE", "/live/a?session=x", "", []string{"@"}, 404, "no-session", "no such session"},
			"no type":               {"PATCH", "/live/a", "{}", []string{"@"}, 415, "bad-media", "merge-patch+json"},
			"another type":          {"PATCH", "/live/a", "{}", []string{"@", "Content-Type: application/json"}, 415, "bad-media", `"application/json"`},
			"incr and a body":       {"PATCH", "/live/b?incr=1", "{}", []string{"@"}, 400, "bad-body", "no body"},
			"incr of nothing":       {"PATCH", "/live/b?incr=", "", []string{"@"}, 400, "bad-parameter", "incr is a number"},
			"incr twice":            {"PATCH", "/live/b?incr=1&incr=1", "", []string{"@"}, 400, "bad-parameter", "more than once"},
			"incr by a word":        {"PATCH", "/live/b?incr=one", "", []string{"@"}, 400, "bad-parameter", "incr is a number"},
			"incr by too much":      {"PATCH", "/live/b?incr=1e999999999", "", []string{"@"}, 400, "bad-parameter", "100 digits"},
			"incr of an object":     {"PATCH", "/live/a?incr=1", "", []string{"@"}, 409, "conflict", `{"n":1`},
			"a bad merge patch":     {"PATCH", "/live/a", "{", []string{"@", merge}, 400, "bad-patch", "malformed at byte 1"},
			"no merge patch":        {"PATCH", "/live/a", "", []string{"@", merge}, 400, "bad-patch", "it is empty"},
			"a merge too deep":      {"PATCH", "/live/a", `{"l":` + deep[1:len(deep)-1] + `}`, []string{"@", merge}, 422, "unprocessable", "64 levels deep"},
			"a bad patch":           {"PATCH", "/live/a", `{}`, []string{"@", patch}, 400, "bad-patch", "array of operations"},
			"a bad operation":       {"PATCH", "/live/a", `[{"op":"remove","path":"/n"},{"op":"x","path":"/s"}]`, []string{"@", patch}, 400, "bad-patch", `operation 1, path "/s"`},
			"a failed test":         {"PATCH", "/live/a", `[{"op":"remove","path":"/n"},{"op":"test","path":"/s","value":"y"}]`, []string{"@", patch}, 409, "conflict", `operation 1, path "/s"`},
			"a missing path":        {"PATCH", "/live/a", `[{"op":"remove","path":"/x/y"}]`, []string{"@", patch}, 409, "conflict", `there is no /x`},
			"a wrong type":          {"PATCH", "/live/a", `[{"op":"add","path":"/s/0","value":1}]`, []string{"@", patch}, 409, "conflict", `/s is no object and no array`},
			"a patch of many":       {"PATCH", "/live/a", "[" + strings.Repeat(`{"op":"remove","path":"/n"},`, 1000) + `{"op":"remove","path":"/n"}]`, []string{"@", patch}, 422, "unprocessable", "1000 operations"},
			"a patch to much":       {"PATCH", "/live/a", `[{"op":"add","path":"/s","value":"` + strings.Repeat("x", 65530) + `"}]`, []string{"@", patch}, 413, "too-large", "at most 65536"},
			"a large patch":         {"PATCH", "/live/a", `{"x":"` + strings.Repeat("x", 128<<10) + `"}`, []string{"@", merge}, 413, "too-large", "more than 131072 bytes"},
			"a large JSON patch":    {"PATCH", "/live/a", "[" + strings.Repeat(" ", 128<<10) + "]", []string{"@", patch}, 413, "too-large", "more than 131072 bytes"},
			"a patch, compared":     {"PATCH", "/live/a", `[]`, []string{"@", patch, `If-Match: "1-1"`}, 412, "precondition-failed", strings.Trim(tag, `"`)},
			"in a batch, an event":  {"POST", "/live/_publish", `{"channel":"a","state":1,"event":"x"}`, []string{"@"}, 400, "bad-body", "nothing of an event"},
			"in a batch, no JSON":   {"POST", "/live/_publish", `[{"channel":"b","state":2},{"channel":"a","state":{"a":1,"a":2}}]`, []string{"@"}, 400, "bad-state", "/a is there twice"},
			"in a batch, forbidden": {"POST", "/live/_publish", `{"channel":"a","state":1}`, []string{"Authorization: Bearer " + guestSecret}, 403, "forbidden", `no permission to write values (state)`},
		} {
			t.Run(name, func(t *testing.T) {
				q := request{tt.method, tt.path, nil, tt.body}
				for _, h := range tt.header {
					if h == "@" {
						h = "Authorization: Bearer " + backendSecret
					}
					q.header = append(q.header, h)
				}
				resp := ask(t, e, q)
				if accept := resp.Header.Get("Accept-Patch"); tt.method == "PATCH" && accept != "application/merge-patch+json, application/json-patch+json" {
					t.Errorf("Accept-Patch %q", accept)
				}
				body := bodyOf(t, resp)
				if resp.StatusCode != tt.status || !strings.Contains(body, problem.URN+tt.kind+`"`) || !strings.Contains(strings.ReplaceAll(body, `\"`, `"`), tt.says) {
					t.Errorf("got %d %s, want %d %s that says %q", resp.StatusCode, body, tt.status, tt.kind, tt.says)
				}
				if strings.HasPrefix(tt.says, "operation 1") && !strings.Contains(body, `"operation":1,"pointer":"/s"`) {
					t.Errorf("the place is not told: %s", body)
				}
				if a, b := e.hub.Broker().State("a"), e.hub.Broker().State("b"); `"`+a.Version.String()+`"` != tag || string(b.Value) != "1" {
					t.Errorf("the value is %.100s", a.Value)
				}
			})
		}
	})
}

func TestAnIdempotentWriteOfStateIsDoneOnce(t *testing.T) {
	eachServer(t, func(t *testing.T, on server) {
		e := on.start(t, withState)
		key := "Idempotency-Key: k"
		for _, tt := range []struct {
			name         string
			first, other request
			undo         request
		}{
			{"put", asBackend("PUT", "/live/p", "1", key), asBackend("PUT", "/live/p", "2", key), asBackend("PUT", "/live/p", "3")},
			{"incr", asBackend("PATCH", "/live/i?incr=1", "", key+"i"), asBackend("PATCH", "/live/i?incr=2", "", key+"i"), asBackend("PUT", "/live/i", "9")},
			{"patch", asBackend("PATCH", "/live/i", `[{"op":"test","path":"","value":9},{"op":"replace","path":"","value":10}]`, key+"j", "Content-Type: application/json-patch+json"), asBackend("PATCH", "/live/i", `[]`, key+"j", "Content-Type: application/json-patch+json"), asBackend("PUT", "/live/i", "11")},
			{"delete", asBackend("DELETE", "/live/i", "", key+"d"), asBackend("DELETE", "/live/p", "", key+"d"), asBackend("PUT", "/live/i", "12")},
			{"batch", asBackend("POST", "/live/_publish", `{"channel":"b","state":1}`, key+"b"), asBackend("POST", "/live/_publish", `{"channel":"b","state":2}`, key+"b"), asBackend("PUT", "/live/b", "3")},
		} {
			first := ask(t, e, tt.first)
			status, body := first.StatusCode, bodyOf(t, first)
			ask(t, e, tt.undo)
			again := ask(t, e, tt.first)
			if got := bodyOf(t, again); again.StatusCode != status || got != body || again.Header.Get("Idempotency-Replayed") != "true" {
				t.Errorf("%s: %d %s, and then %d %s", tt.name, status, body, again.StatusCode, got)
			}
			if value := string(e.hub.Broker().State(strings.TrimPrefix(tt.undo.path, "/live/")).Value); value != tt.undo.body {
				t.Errorf("%s: the value is %s, want %s", tt.name, value, tt.undo.body)
			}
			wantProblem(t, ask(t, e, tt.other), 422, "key-reused")
		}
	})
}

func TestABatchSetsValuesAmongItsEvents(t *testing.T) {
	eachServer(t, func(t *testing.T, on server) {
		e := on.start(t, withState)
		resp := ask(t, e, asBackend("POST", "/live/_publish",
			`[{"channel":"a","data":"x"},{"channels":["a","b"],"state":{"n": 0.10}},{"channel":"c","state":null}]`))
		if got := anyID.ReplaceAllString(bodyOf(t, resp), "ID"); got != `{"published":4,"id":ID,"ids":[ID,ID,ID,ID]}` {
			t.Errorf("got %s", got)
		}
		for channel, want := range map[string]string{"a": `{"n":0.10}`, "b": `{"n":0.10}`, "c": "null"} {
			if got := string(e.hub.Broker().State(channel).Value); got != want {
				t.Errorf("%s is %s, want %s", channel, got, want)
			}
		}
		if got := kept(t, e, "a"); strings.Join(got, " ") != `a:{"value":{"n":0.10}} :x` {
			t.Errorf("a reader of a gets %q", got)
		}
		lines := `{"channel":"b","state":1}` + "\n" + `{"channel":"b","data":"y"}` + "\n"
		if body := bodyOf(t, ask(t, e, asBackend("POST", "/live/_publish", lines, "Content-Type: application/x-ndjson"))); !strings.HasPrefix(body, `{"published":2,`) {
			t.Errorf("got %s", body)
		}
		// Who may write values and nothing else.
		guest := request{"POST", "/live/_publish", []string{"Authorization: Bearer " + guestSecret}, `{"channel":"public/x","state":1}`}
		if body := bodyOf(t, ask(t, e, guest)); !strings.HasPrefix(body, `{"id":`) {
			t.Errorf("got %s", body)
		}
		guest.body = `{"channel":"public/x","data":"1"}`
		wantProblem(t, ask(t, e, guest), 403, "forbidden")
	})
}

func TestAPollTellsValues(t *testing.T) {
	eachServer(t, func(t *testing.T, on server) {
		e := on.start(t, withState)
		poll := func(query string) (events, at string) {
			t.Helper()
			body := bodyOf(t, ask(t, e, asBackend("GET", "/live/?channel=a&channel=b/*&poll=1&timeout=0"+query, "")))
			events, at, _ = strings.Cut(body, `],"last_event_id":"`)
			return anyID.ReplaceAllString(strings.TrimPrefix(events, `{"events":[`), "ID"), strings.TrimSuffix(at, `"}`)
		}
		put(t, e, "/live/a", "1")
		put(t, e, "/live/b/1", "2")
		events, at := poll("")
		if want := `{"id":ID,"channel":"a","event":"a","data":"{\"value\":1}"},{"id":ID,"channel":"b/1","event":"b/1","data":"{\"value\":2}"}`; events != want {
			t.Errorf("at first: %s, want %s", events, want)
		}
		if events, _ := poll("&last_event_id=" + at); events != "" {
			t.Errorf("nothing has changed: %s", events)
		}
		put(t, e, "/live/a", "3")
		put(t, e, "/live/a", "4")
		ask(t, e, asBackend("DELETE", "/live/b/1", ""))
		if events, _ := poll("&last_event_id=" + at); events != `{"id":ID,"channel":"b/1","event":"b/1","data":"{\"deleted\":true}"},{"id":ID,"channel":"a","event":"a","data":"{\"value\":4}"}` {
			t.Errorf("then: %s", events)
		}
		big := `"` + strings.Repeat("x", 60<<10) + `"`
		for i := range 150 {
			put(t, e, "/live/b/"+strconv.Itoa(i), big)
		}
		wantProblem(t, ask(t, e, asBackend("GET", "/live/?channel=b/*&poll=1&timeout=0", "")), 400, "bad-parameter")
		for i := range 150 {
			ask(t, e, asBackend("DELETE", "/live/b/"+strconv.Itoa(i), ""))
		}
		for i := range 1500 { // more than there may be events
			put(t, e, "/live/b/"+strconv.Itoa(i), "1")
		}
		if events, _ := poll(""); strings.Count(events, `"event":"b/`) != 1500 {
			t.Errorf("%d values, want 1500", strings.Count(events, `"event":"b/`))
		}
	})
}

func TestInfoTellsTheVersionOfAValue(t *testing.T) {
	eachServer(t, func(t *testing.T, on server) {
		e := on.start(t, withState)
		tag := put(t, e, "/live/a", "1")
		if body := bodyOf(t, ask(t, e, asBackend("GET", "/live/a?info", ""))); !strings.Contains(body, `"state":`+tag+`,`) {
			t.Errorf("info: %s", body)
		}
		if body := bodyOf(t, ask(t, e, asBackend("GET", "/live/_channels", ""))); !strings.Contains(body, `{"channel":"a","subscribers":0,`) || !strings.Contains(body, `"state":`+tag) {
			t.Errorf("channels: %s", body)
		}
		ask(t, e, asBackend("DELETE", "/live/a", ""))
		wantProblem(t, ask(t, e, asBackend("GET", "/live/a?info", "")), 404, "not-found")
	})
}

func TestAPreflightForStateIsAnswered(t *testing.T) {
	eachServer(t, func(t *testing.T, on server) {
		e := on.start(t, withState)
		resp := ask(t, e, request{method: "OPTIONS", path: "/live/a"})
		if got := resp.Header.Get("Accept-Patch"); got != "application/merge-patch+json, application/json-patch+json" {
			t.Errorf("Accept-Patch %q", got)
		}
		if got := ask(t, e, request{method: "OPTIONS", path: "/live/a/"}).Header.Get("Accept-Patch"); got != "" {
			t.Errorf("beneath: Accept-Patch %q", got)
		}
	})
}

// A value that is bound to a stream goes with it, and only who may bind it can.
func TestAValueIsBoundToTheStreamOfItsWriter(t *testing.T) {
	eachServer(t, func(t *testing.T, on server) {
		e := on.start(t, withState)
		guest := "Authorization: Bearer " + guestSecret
		watcher := openStream(t, e, "/live/public/x")
		watcher.opened()
		mine := openStream(t, e, "/live/public/other", guest)
		_, session, _ := strings.Cut(mine.opening(), `"session":"`)
		session, _, _ = strings.Cut(session, `"`)

		wantProblem(t, ask(t, e, asBackend("PUT", "/live/public/x?session="+session, "1")), 403, "forbidden")
		if resp := ask(t, e, request{"PUT", "/live/public/x?session=" + session, []string{guest}, "1"}); resp.StatusCode != 201 {
			t.Fatalf("got %d %s", resp.StatusCode, bodyOf(t, resp))
		}
		if got := watcher.event(); got != "event: public/x\ndata: {\"value\":1}\n" {
			t.Errorf("got %q", got)
		}
		if resp := ask(t, e, request{"PATCH", "/live/public/x?incr=1", []string{guest}, ""}); resp.StatusCode != 200 {
			t.Fatalf("got %d %s", resp.StatusCode, bodyOf(t, resp))
		}
		if got := watcher.event(); got != "event: public/x\ndata: {\"value\":2}\n" {
			t.Errorf("got %q", got)
		}
		mine.cancel() // a cut, not an end
		if got := watcher.event(); got != "event: public/x\ndata: {\"deleted\":true}\n" {
			t.Errorf("got %q", got)
		}
		wantProblem(t, ask(t, e, request{"PUT", "/live/public/x?session=" + session, []string{guest}, "1"}), 404, "no-session")
		eventually(t, "the session that has ended to be forgotten", func() bool { return e.hub.Session(session) == nil })
	})
}

func TestTheTimeOfAValueIsConfigured(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, handler := newTestHandler(t, newSiteConfig(withState, func(c *siteConfig) {
			c.broker.Channels = []ChannelConfig{{Pattern: "short/*", StateTTL: caddy.Duration(time.Second), StateKey: "n", StateFormat: "json-patch"}}
		}))
		e := &testSite{hub: h}
		ask := func(q request) *http.Response { // in the time of the test there are no connections
			w := httptest.NewRecorder()
			handler.ServeHTTP(w, q.build())
			return w.Result()
		}
		for _, path := range []string{"/live/short/a", "/live/long"} {
			if resp := ask(asBackend("PUT", path, "1")); resp.StatusCode != 201 {
				t.Fatalf("PUT %s: %d %s", path, resp.StatusCode, bodyOf(t, resp))
			}
		}
		if got := kept(t, e, "short/a"); strings.Join(got, " ") != `short/a:{"n":1}` {
			t.Errorf("a reader gets %q", got)
		}
		time.Sleep(time.Second + time.Millisecond)
		synctest.Wait()
		wantProblem(t, ask(asBackend("GET", "/live/short/a", "", asJSON)), 404, "no-state")
		if got := bodyOf(t, ask(asBackend("GET", "/live/long", "", asJSON))); got != "1" {
			t.Errorf("the other is %s", got)
		}
	})
}
