package evstream

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/evstream/caddy-evstream/broker"
)

func TestPublishedEventIsStoredAndItsIDAnswered(t *testing.T) {
	eachServer(t, func(t *testing.T, on server) {
		e := on.start(t)
		resp := ask(t, e, asBackend("POST", "/live/match.7?event=score&retry=2000", `{"home":2}`))
		body := bodyOf(t, resp)
		if want := `{"id":"` + e.hub.Broker().Head().String() + `"}`; resp.StatusCode != 200 || body != want {
			t.Fatalf("got %d %s, want %s", resp.StatusCode, body, want)
		}
		for name, want := range map[string]string{"Content-Type": "application/json", "Cache-Control": "no-store"} {
			if got := resp.Header.Get(name); got != want {
				t.Errorf("%s: %q, want %q", name, got, want)
			}
		}
		if got := kept(t, e, "match.7"); !slices.Equal(got, []string{`score:{"home":2}`}) {
			t.Errorf("kept %q", got)
		}
	})
}

func TestBodiesThatAreOneEvent(t *testing.T) {
	eachServer(t, func(t *testing.T, on server) {
		for _, tt := range []struct{ name, path, contentType, body, want string }{
			{"text", "/live/a", "text/plain", "hello\nworld\n", ":hello\nworld\n"},
			{"what curl -d sends", "/live/a", "application/x-www-form-urlencoded", `{"a":"b=c&d"}`, `:{"a":"b=c&d"}`},
			{"base64, from curl -d", "/live/a", "application/x-www-form-urlencoded", "aGk=", ":aGk="},
			{"a sum, from curl -d", "/live/a", "application/x-www-form-urlencoded", "1+1=2", ":1+1=2"},
			{"a sentence, from curl -d", "/live/a", "application/x-www-form-urlencoded", "a = b", ":a = b"},
			{"a form, as text", "/live/a", "text/plain", "a=b&c=%20", ":a=b&c=%20"},
			{"a line, by another name", "/live/a", "application/jsonl", "1\n", ":1"},
			{"a line, by a third name", "/live/a", "application/NDJSON; charset=utf-8", "1\n", ":1"},
			{"a line, by a fourth name", "/live/a", "application/x-jsonlines", "1", ":1"},
			{"no type", "/live/a", "", "x", ":x"},
			{"nothing", "/live/a?event=tick", "", "", "tick:"},
			{"json", "/live/a", "application/json; charset=utf-8", `{"n": 1}`, `:{"n": 1}`},
			{"a type that must be decoded", "/live/a?event=score%20update", "", "x", "score update:x"},
			{"message is the default type", "/live/a?event=message", "", "x", ":x"},
			{"a name with escapes", "/live/%61", "", "x", ":x"},
			{"the mount in another case", "/LIVE/a", "", "x", ":x"},
			{"a parameter of somebody else", "/live/a?_=123&_%zz=%zz", "", "x", ":x"},
		} {
			t.Run(tt.name, func(t *testing.T) {
				e := on.start(t)
				mustPost(t, e, tt.path, tt.body, "Content-Type: "+tt.contentType)
				if got := kept(t, e, "a"); !slices.Equal(got, []string{tt.want}) {
					t.Errorf("kept %q, want %q", got, tt.want)
				}
			})
		}
	})
}

// badPublishes are requests that publish nothing. "@" stands for the backend's
// Authorization.
var badPublishes = []struct {
	name   string
	method string
	path   string
	header []string
	body   string
	status int
	kind   string
	detail string
}{
	{"a CR in the type", "POST", "/live/a?event=a%0Db", []string{"@"}, "x", 400, "bad-event", "without control characters"},
	{"a LF in the type", "POST", "/live/a?event=a%0Ab", []string{"@"}, "x", 400, "bad-event", "without control characters"},
	{"a NUL in the type", "POST", "/live/a?event=a%00b", []string{"@"}, "x", 400, "bad-event", "without control characters"},
	{"a CR in the id", "POST", "/live/a?id=a%0Ddata:%20x", []string{"@"}, "x", 400, "bad-event", "without control characters"},
	{"a LF in the id", "POST", "/live/a?id=a%0Ab", []string{"@"}, "x", 400, "bad-event", "without control characters"},
	{"a NUL in the id", "POST", "/live/a?id=%00", []string{"@"}, "x", 400, "bad-event", "without control characters"},
	{"a type of the hub's", "POST", "/live/a?event=evstream.gap", []string{"@"}, "x", 400, "bad-event", "belong to the hub"},
	{"an id like a position", "POST", "/live/a?id=1763687000123-0", []string{"@"}, "x", 400, "bad-event", "look like a position"},
	{"the id of the end", "POST", "/live/a?id=evstream.end", []string{"@"}, "x", 400, "bad-event", "evstream."},
	{"a long id", "POST", "/live/a?id=" + strings.Repeat("x", 4097), []string{"@"}, "x", 400, "bad-event", "at most 4096 bytes"},
	{"a long type", "POST", "/live/a?event=" + strings.Repeat("x", 4097), []string{"@"}, "x", 400, "bad-event", "4097 bytes, at most 4096"},
	{"retry below zero", "POST", "/live/a?retry=-1", []string{"@"}, "x", 400, "bad-event", `at least 1, not "-1"`},
	{"half a retry", "POST", "/live/a?retry=1.5", []string{"@"}, "x", 400, "bad-event", `not "1.5"`},
	{"retry with a unit", "POST", "/live/a?retry=2s", []string{"@"}, "x", 400, "bad-event", `not "2s"`},
	{"retry of nothing", "POST", "/live/a?retry=", []string{"@"}, "x", 400, "bad-event", `not ""`},
	{"retry 0", "POST", "/live/a?retry=0", []string{"@"}, "x", 400, "bad-event", `not "0"`},
	{"a long retry", "POST", "/live/a?retry=3600001", []string{"@"}, "x", 400, "bad-event", "from 1 to 3600000 here, not 3600001"},
	{"a parameter twice", "POST", "/live/a?event=b&event=c", []string{"@"}, "x", 400, "bad-parameter", "event is given more than once"},
	{"a broken parameter", "POST", "/live/a?event=%zz", []string{"@"}, "x", 400, "bad-parameter", "malformed percent-encoding"},
	{"invalid UTF-8", "POST", "/live/a", []string{"@"}, "a\xff", 400, "bad-event", "UTF-8"},
	{"invalid UTF-8 in the type", "POST", "/live/a?event=%ff", []string{"@"}, "x", 400, "bad-event", "UTF-8"},
	{"too much data", "POST", "/live/a", []string{"@"}, strings.Repeat("x", 2000), 413, "too-large", "2000 bytes, at most 1024 are allowed"},
	{"too large a body", "POST", "/live/a", []string{"@"}, strings.Repeat("x", 5000), 413, "too-large", "more than 4096 bytes"},
	{"a gzip bomb", "POST", "/live/a", []string{"@", "Content-Encoding: gzip"}, "x", 415, "bad-media", `"gzip" is not served`},
	{"one encoding after another", "POST", "/live/a", []string{"@", "Content-Encoding: identity", "Content-Encoding: br"}, "x", 415, "bad-media", `"br"`},
	{"a form of Mercure", "POST", "/live/a", []string{"@", "Content-Type: application/x-www-form-urlencoded"}, "topic=https%3A%2F%2Fexample.com%2Fa&data=hello+world", 415, "bad-media", "text/plain"},
	{"one field", "POST", "/live/a", []string{"@", "Content-Type: application/x-www-form-urlencoded; charset=utf-8"}, "data=1", 415, "bad-media", "fields of a form"},
	{"a form with files", "POST", "/live/a", []string{"@", "Content-Type: multipart/form-data; boundary=x"}, "--x--", 415, "bad-media", "fields of a form"},
	{"a form, in a batch", "POST", "/live/_publish", []string{"@", "Content-Type: application/x-www-form-urlencoded"}, "channel=a&data=b", 415, "bad-media", "fields of a form"},
	{"a long except", "POST", "/live/a?except=" + strings.Repeat("x", 256), []string{"@"}, "x", 400, "bad-event", "255 bytes"},
	{"a space in the key", "POST", "/live/a", []string{"@", "Idempotency-Key: a b"}, "x", 400, "bad-key", "1 to 255 visible"},
	{"an empty key", "POST", "/live/a", []string{"@", "Idempotency-Key: "}, "x", 400, "bad-key", "1 to 255 visible"},
	{"a long key", "POST", "/live/a", []string{"@", "Idempotency-Key: " + strings.Repeat("k", 256)}, "x", 400, "bad-key", "1 to 255 visible"},
	{"two keys", "POST", "/live/a", []string{"@", "Idempotency-Key: a", "Idempotency-Key: a"}, "x", 400, "bad-key", "one value"},

	{"a name with a space", "POST", "/live/a%20b", []string{"@"}, "x", 400, "bad-channel", "' ' is not allowed"},
	{"a name with a NUL", "POST", "/live/a%00", []string{"@"}, "x", 400, "bad-channel", "is not allowed"},
	{"a name with a newline", "POST", "/live/a%0Adata:x", []string{"@"}, "x", 400, "bad-channel", "is not allowed"},
	{"a long name", "POST", "/live/" + strings.Repeat("x", 256), []string{"@"}, "x", 400, "bad-channel", "1 to 255 bytes"},
	{"a pattern", "POST", "/live/a/*", []string{"@"}, "x", 400, "bad-channel", "'*' is not allowed"},
	{"an encoded slash", "POST", "/live/a%2Fb", []string{"@"}, "x", 400, "bad-path", "encoded slash"},
	{"an empty segment", "POST", "/live/a//b", []string{"@"}, "x", 400, "bad-path", "empty, . or .. segment"},
	{"dots", "POST", "/live/b/%2e%2e/a", []string{"@"}, "x", 400, "bad-path", "empty, . or .. segment"},
	{"no channel", "POST", "/live/", []string{"@"}, "x", 405, "bad-method", "publish to a channel, or to _publish"},
	{"beneath nothing", "POST", "/live/", []string{"@"}, "x", 405, "bad-method", "publish to a channel, or to _publish"},
	{"a session", "POST", "/live/_sessions/x", []string{"@"}, "x", 404, "no-session", "cannot be the id of a session"},

	{"nobody", "POST", "/live/a", nil, "x", 401, "unauthorized", "no permission to publish"},
	{"a wrong bearer", "POST", "/live/a", []string{"Authorization: Bearer nonsense"}, "x", 401, "unauthorized", "not known here"},
	{"somebody else", "POST", "/live/a", []string{"Authorization: Bearer " + guestSecret}, "x", 403, "forbidden", `guest has no permission to publish, here channel "a"`},
	{"a foreign page", "POST", "/live/a", []string{"@", "Sec-Fetch-Site: cross-site", "Origin: https://evil.example"}, "x", 403, "cross-origin", "another origin"},
	{"a foreign page of an old browser", "POST", "/live/a", []string{"@", "Origin: https://evil.example"}, "x", 403, "cross-origin", "another origin"},
	{"a sandboxed page", "POST", "/live/a", []string{"@", "Origin: null"}, "x", 403, "cross-origin", "another origin"},
	{"a sibling's page", "POST", "/live/a", []string{"@", "Sec-Fetch-Site: same-site", "Origin: https://other.hub.example"}, "x", 403, "cross-origin", "another origin"},
	{"a purge by a foreign page", "DELETE", "/live/a?history", []string{"@", "Sec-Fetch-Site: cross-site"}, "", 403, "cross-origin", "another origin"},
	{"a purge by nobody", "DELETE", "/live/a?history", nil, "", 401, "unauthorized", "no permission to purge"},

	{"state", "PUT", "/live/a", []string{"@"}, "42", 403, "forbidden", "no permission to write values (state)"},
	{"a patch", "PATCH", "/live/a?incr=1", []string{"@"}, "", 403, "forbidden", "no permission to write values (state)"},
	{"removing state", "DELETE", "/live/a", []string{"@"}, "", 403, "forbidden", "no permission to write values (state)"},
	{"state beneath", "PUT", "/live/a/", []string{"@"}, "42", 405, "bad-method", "is published to, with POST"},
	{"a method that is none", "BREW", "/live/a", []string{"@"}, "", 405, "bad-method", "BREW is not served"},
	{"putting a batch", "PUT", "/live/_publish", []string{"@"}, "{}", 405, "bad-method", "with POST"},

	{"a line's type", "POST", "/live/a?event=evstream.x", []string{"@", "Content-Type: application/x-ndjson"}, "x\n", 400, "bad-event", "belong to the hub"},
	{"one id for lines", "POST", "/live/a?id=x", []string{"@", "Content-Type: application/x-ndjson"}, "x\n", 400, "bad-parameter", "id names one event"},
	{"a long line", "POST", "/live/a", []string{"@", "Content-Type: application/x-ndjson"}, strings.Repeat("x", 4097) + "\n", 413, "too-large", "more than 4096 bytes"},
	{"a type of the hub's, republished", "POST", "/live/a", []string{"@", "Content-Type: text/event-stream"}, "event: evstream.open\ndata: x\n\n", 400, "bad-event", "belong to the hub"},
	{"an event that is too long", "POST", "/live/a", []string{"@", "Content-Type: text/event-stream"}, "data: " + strings.Repeat("x", 5000) + "\n\n", 413, "too-large", "more than 4096 bytes"},
	{"an event that is cut", "POST", "/live/a", []string{"@", "Content-Type: text/event-stream"}, "data: x\n", 400, "bad-body", "ended before it was whole"},
}

func TestABadPublishIsToldAndStoresNothing(t *testing.T) {
	eachServer(t, func(t *testing.T, on server) {
		e := on.start(t, func(c *siteConfig) { c.broker.MaxEvent, c.handler.MaxBody = 1024, 4096 })
		mustPost(t, e, "/live/a", "kept")
		for _, tt := range badPublishes {
			t.Run(tt.name, func(t *testing.T) {
				watcher, err := e.hub.Broker().Subscribe(broker.SubscribeOptions{Channels: []string{"**"}})
				if err != nil {
					t.Fatal(err)
				}
				defer watcher.Close()

				header := slices.Clone(tt.header)
				for i := range header {
					if header[i] == "@" {
						header[i] = "Authorization: Bearer " + backendSecret
					}
				}
				resp := ask(t, e, request{tt.method, tt.path, header, tt.body})
				doc := wantProblem(t, resp, tt.status, tt.kind)
				if !strings.Contains(doc.Detail, tt.detail) {
					t.Errorf("detail %q, want %q", doc.Detail, tt.detail)
				}
				if strings.Contains(doc.Detail, backendSecret) || strings.Contains(doc.Detail, "nonsense") {
					t.Errorf("detail %q tells a secret", doc.Detail)
				}
				if challenge := resp.Header.Get("WWW-Authenticate"); strings.HasPrefix(challenge, "Bearer") != (tt.status == 401) {
					t.Errorf("WWW-Authenticate %q", challenge)
				}
				if allow := resp.Header.Get("Allow"); (allow != "") != (tt.status == 405) {
					t.Errorf("Allow %q", allow)
				}
				if got := kept(t, e, "a"); !slices.Equal(got, []string{":kept"}) {
					t.Errorf("kept %q", got)
				}
				batch := broker.Batch{Decode: true}
				if err := watcher.Read(&batch); err != nil || batch.Gap != nil || len(batch.Deliveries) > 0 {
					t.Errorf("a reader got %+v, %v", batch, err)
				}
			})
		}
	})
}

func TestAllowedMethodsAreNamed(t *testing.T) {
	eachServer(t, func(t *testing.T, on server) {
		e := on.start(t)
		for _, tt := range []struct{ method, path, want string }{
			{"BREW", "/live/a", "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"},
			{"PUT", "/live/a/", "POST, OPTIONS"},
			{"GET", "/live/a/", "POST, OPTIONS"},
			{"GET", "/live/_publish", "POST, OPTIONS"},
			{"POST", "/live/_channels", "GET, HEAD, OPTIONS"},
			{"POST", "/live/", "GET, HEAD, OPTIONS"},
		} {
			resp := ask(t, e, request{method: tt.method, path: tt.path})
			if got := resp.Header.Get("Allow"); resp.StatusCode != 405 || got != tt.want {
				t.Errorf("%s %s: %d, Allow %q, want %q", tt.method, tt.path, resp.StatusCode, got, tt.want)
			}
			options := ask(t, e, request{method: "OPTIONS", path: tt.path})
			if got := options.Header.Get("Allow"); options.StatusCode != 204 || got != tt.want {
				t.Errorf("OPTIONS %s: %d, Allow %q, want %q", tt.path, options.StatusCode, got, tt.want)
			}
		}
	})
}

func TestPublishBeneathReachesChannelsBeneath(t *testing.T) {
	eachServer(t, func(t *testing.T, on server) {
		e := on.start(t)
		sub, err := e.hub.Broker().Subscribe(broker.SubscribeOptions{Channels: []string{"football/arsenal"}})
		if err != nil {
			t.Fatal(err)
		}
		defer sub.Close()
		mustPost(t, e, "/live/football/?event=announcement", "hello")
		batch := broker.Batch{Decode: true}
		if err := sub.Read(&batch); err != nil || len(batch.Deliveries) != 1 || batch.Deliveries[0].Channel != "football/" {
			t.Errorf("got %+v, %v", batch, err)
		}
	})
}

func TestRepeatedPublishGivesTheFirstAnswer(t *testing.T) {
	eachServer(t, func(t *testing.T, on server) {
		e := on.start(t)
		post := func(body, key string) *http.Response {
			return ask(t, e, asBackend("POST", "/live/a", body, "Idempotency-Key: "+key))
		}
		first := post("x", "k")
		again := post("x", "k")
		want := bodyOf(t, first)
		if got := bodyOf(t, again); again.StatusCode != 200 || got != want {
			t.Errorf("got %d %s, want %s", again.StatusCode, got, want)
		}
		if first.Header.Get("Idempotency-Replayed") != "" || again.Header.Get("Idempotency-Replayed") != "true" {
			t.Errorf("marks: %q, %q", first.Header["Idempotency-Replayed"], again.Header["Idempotency-Replayed"])
		}
		wantProblem(t, post("y", "k"), 422, "key-reused")
		post("x", "k2")
		post("x", strings.Repeat("k", 255))
		if got := kept(t, e, "a"); !slices.Equal(got, []string{":x", ":x", ":x"}) {
			t.Errorf("kept %q", got)
		}
	})
}

func TestTheSameKeyOfAnotherCallerIsAnotherKey(t *testing.T) {
	eachServer(t, func(t *testing.T, on server) {
		e := on.start(t, withRules("anyone publish **"), withBearers(map[string]string{"a": "1", "b": "2"}))
		for _, header := range []string{"Authorization: Bearer 1", "Authorization: Bearer 2", "X: y"} {
			resp := ask(t, e, request{"POST", "/live/x", []string{header, "Idempotency-Key: k"}, header})
			if resp.StatusCode != 200 {
				t.Errorf("%s: %s", header, bodyOf(t, resp))
			}
		}
	})
}

func TestPurgeEmptiesTheHistory(t *testing.T) {
	eachServer(t, func(t *testing.T, on server) {
		e := on.start(t)
		mustPost(t, e, "/live/a", "x")
		resp := ask(t, e, asBackend("DELETE", "/live/a?history", ""))
		if body := bodyOf(t, resp); resp.StatusCode != 200 || !strings.HasPrefix(body, `{"id":"`) {
			t.Errorf("%d %s", resp.StatusCode, body)
		}
		if got := kept(t, e, "a"); len(got) != 0 {
			t.Errorf("kept %q", got)
		}
	})
}

// Caddy's server answers with the routes of the site for errors.
func TestErrorsAreReturnedWhereTheSiteHasRoutesForThem(t *testing.T) {
	host := new(caddyHost)
	host.errorRoute.Store(true)
	_, e := newTestHandler(t, newSiteConfig(func(c *siteConfig) { c.host = host }))
	for _, tt := range []struct {
		name   string
		req    request
		status int
	}{
		{"nobody", request{method: "POST", path: "/live/a"}, 401},
		{"a line", asBackend("POST", "/live/a", "1\n\xff\n", "Content-Type: application/x-ndjson"), 400},
		{"a method", request{method: "BREW", path: "/live/a"}, 405},
	} {
		w := httptest.NewRecorder()
		_, err := e.Serve(w, tt.req.build())
		if he, ok := errors.AsType[caddyhttp.HandlerError](err); !ok || he.StatusCode != tt.status {
			t.Errorf("%s: got %v", tt.name, err)
		}
		if w.Body.Len() > 0 || w.Flushed || w.Header().Get("Content-Type") != "" {
			t.Errorf("%s: wrote %q with %v", tt.name, w.Body, w.Header())
		}
		if got := w.Header().Get("WWW-Authenticate"); (got == "Bearer") != (tt.status == 401) {
			t.Errorf("%s: WWW-Authenticate %q", tt.name, got)
		}
		if got := w.Header().Get("Allow"); (got != "") != (tt.status == 405) {
			t.Errorf("%s: Allow %q", tt.name, got)
		}
	}
}
