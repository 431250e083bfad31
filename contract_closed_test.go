package evstream

import (
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/evstream/caddy-evstream/broker"
)

const endBlock = "id: evstream.end\nevent: end\ndata: {}\n"

// ends fails unless the stream ends now, with the event that says so and a whole body.
func (r *blockReader) ends() {
	r.t.Helper()
	if block := r.next(); block != endBlock {
		r.t.Fatalf("got %q, want the end", block)
	}
	r.complete()
}

// complete fails unless the body ends here as it should. A reconnect delay may follow.
func (r *blockReader) complete() {
	r.t.Helper()
	if rest, err := io.ReadAll(r.lines); err != nil || len(rest) > 0 {
		r.t.Errorf("behind the end there is %q, %v", rest, err)
	}
}

// allStreams runs a test over each kind of server, version of HTTP and kind of stream.
func allStreams(t *testing.T, test func(t *testing.T, e *testSite, open func(path string, header ...string) *blockReader)) {
	eachServer(t, func(t *testing.T, on server) {
		for _, attached := range []bool{false, true} {
			for _, proto := range []string{"HTTP/1.1", "HTTP/2.0"} {
				name := proto + " detached"
				if attached {
					name = proto + " attached"
				}
				t.Run(name, func(t *testing.T) {
					e := on.start(t, withHTTP2, func(c *siteConfig) {
						if attached {
							c.handler.Delivery = "attached"
						}
					})
					test(t, e, func(path string, header ...string) *blockReader {
						return openStreamOver(t, e, proto, path, append(header, "Authorization: Bearer "+backendSecret)...)
					})
				})
			}
		}
	})
}

func TestReadersOfAClosedChannelGetWhatIsLeftAndThenTheEnd(t *testing.T) {
	allStreams(t, func(t *testing.T, e *testSite, open func(string, ...string) *blockReader) {
		one, both, pattern, named := open("/live/match.7"), open("/live/?channel=match.7&channel=match.8&envelope=1"),
			open("/live/?channel=match.*"), open("/live/match.7?named=0&event=score")
		for _, r := range []*blockReader{one, both, pattern, named} {
			r.opening()
		}
		mustPost(t, e, "/live/match.7?event=score", "1")
		id := mustPost(t, e, "/live/match.7?close&event=whistle", "over")
		for _, want := range []string{"event: score\ndata: 1\n", "event: whistle\ndata: over\n"} {
			if got := one.event(); got != want {
				t.Errorf("got %q, want %q", got, want)
			}
			if got := pattern.event(); got != want {
				t.Errorf("through a pattern: got %q, want %q", got, want)
			}
			both.next()
		}
		one.ends()
		if got := named.event(); !strings.HasPrefix(got, `data: {"ch":"match.7"`) {
			t.Errorf("got %q, want the score", got)
		}
		named.ends()
		if got, want := both.next(), "event: evstream.closed\ndata: {\"channel\":\"match.7\"}\n"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
		mustPost(t, e, "/live/match.8", "2")
		if got := both.event(); !strings.Contains(got, `"ch":"match.8"`) {
			t.Errorf("got %q, want the event of match.8", got)
		}
		mustPost(t, e, "/live/match.8?close", "")
		both.ends()
		if got := pattern.event(); got != "data: 2\n" {
			t.Errorf("through a pattern: got %q, want what match.8 got", got)
		}

		late := open("/live/match.7?since=earliest")
		late.opening()
		if first, last := late.event(), late.next(); first != "event: score\ndata: 1\n" || last != "id: "+id+"\nevent: whistle\ndata: over\n" {
			t.Errorf("later: got %q and %q", first, last)
		}
		late.ends()
		now := open("/live/match.7", "Last-Event-ID: "+id)
		now.opening()
		now.ends()
		resp := ask(t, e, asBackend("GET", "/live/match.7", "", "Last-Event-ID: evstream.end"))
		if resp.StatusCode != http.StatusNoContent {
			t.Errorf("who comes with the end's id is answered %d, want 204", resp.StatusCode)
		}
		more := open("/live/?channel=match.7&channel=match.9")
		more.opening()
		if got, want := more.next(), "event: evstream.closed\ndata: {\"channel\":\"match.7\"}\n"; got != want {
			t.Errorf("later: got %q, want %q", got, want)
		}
	})
}

func TestAClosedChannelTakesNothing(t *testing.T) {
	eachServer(t, func(t *testing.T, on server) {
		e := on.start(t, withRules("backend all **"), func(c *siteConfig) { c.admin = true })
		before := mustPost(t, e, "/live/match.7", "1", "Idempotency-Key: k")
		id := mustPost(t, e, "/live/match.7?close", "2", "Idempotency-Key: end")
		for _, q := range []request{
			asBackend("POST", "/live/match.7", "3"),
			asBackend("POST", "/live/match.7?close", "3"),
			asBackend("POST", "/live/match.7?close&event=x", ""),
			asBackend("PUT", "/live/match.7", "3"),
			asBackend("PATCH", "/live/match.7?incr=1", ""),
			asBackend("POST", "/live/_publish", `{"channel":"match.7","data":"3"}`),
			asBackend("POST", "/live/_publish", `{"channel":"match.7","data":"3","close":true}`),
			asBackend("POST", "/live/_publish", `{"channel":"match.7","state":3}`),
		} {
			wantProblem(t, ask(t, e, q), 409, "closed")
		}
		doc := wantProblem(t, ask(t, e, asBackend("POST", "/live/match.7", "3\n4", "Content-Type: application/x-ndjson")), 409, "closed")
		if doc.Line != 1 || doc.Published == nil || *doc.Published != 0 {
			t.Errorf("of lines: %+v", doc)
		}
		for what, q := range map[string]request{
			"a key from before": asBackend("POST", "/live/match.7", "1", "Idempotency-Key: k"),
			"the key":           asBackend("POST", "/live/match.7?close", "2", "Idempotency-Key: end"),
			"closing again":     asBackend("POST", "/live/match.7?close", ""),
			"and in a batch":    asBackend("POST", "/live/_publish", `{"channel":"match.7","close":true}`),
		} {
			want := id
			if what == "a key from before" {
				want = before
			}
			if resp := ask(t, e, q); resp.StatusCode != 200 || bodyOf(t, resp) != `{"id":"`+want+`"}` {
				t.Errorf("%s: %d, want 200 and %s", what, resp.StatusCode, want)
			}
		}
		var info struct {
			Closed  string
			History struct{ Events int }
		}
		resp := ask(t, e, asBackend("GET", "/live/match.7?info", "", "Accept: application/json"))
		if err := json.Unmarshal([]byte(bodyOf(t, resp)), &info); err != nil || info.Closed != id || info.History.Events != 2 {
			t.Errorf("its document says %+v, %v", info, err)
		}
		mustPost(t, e, "/live/quiet?close", "")
		if resp := ask(t, e, asBackend("GET", "/live/quiet?info", "", "Accept: application/json")); resp.StatusCode != 200 {
			t.Errorf("of a channel that is closed and has nothing: %d", resp.StatusCode)
		}
		if resp := ask(t, e, asBackend("DELETE", "/live/match.7?history", "")); resp.StatusCode != 200 {
			t.Fatalf("purging: %d", resp.StatusCode)
		}
		mustPost(t, e, "/live/match.7", "5")
		if resp := ask(t, e, asBackend("PUT", "/live/match.7", "5")); resp.StatusCode != 201 {
			t.Errorf("setting the value after the purge: %d", resp.StatusCode)
		}
		if got := kept(t, e, "match.7"); !slices.Equal(got, []string{`match.7:{"value":5}`, ":5"}) {
			t.Errorf("it keeps %q", got)
		}
		// At the admin endpoint, too; and a value can go.
		admin, err := http.Post(e.admin+"/match.7?close", "text/plain", strings.NewReader("6"))
		if err != nil {
			t.Fatal(err)
		}
		_ = admin.Body.Close()
		wantProblem(t, ask(t, e, asBackend("PUT", "/live/match.7", "6")), 409, "closed")
		if resp := ask(t, e, asBackend("DELETE", "/live/match.7", "")); admin.StatusCode != 200 || resp.StatusCode != 200 {
			t.Errorf("closing at the admin endpoint: %d; removing the value: %d", admin.StatusCode, resp.StatusCode)
		}
	})
}

func TestClosingIsAsked(t *testing.T) {
	eachServer(t, func(t *testing.T, on server) {
		e := on.start(t)
		for _, tt := range []struct {
			path, body, says, kind string
		}{
			{"/live/a/?close", "x", "one channel", "bad-parameter"},
			{"/live/a?close=maybe", "x", "close is 1 or 0", "bad-parameter"},
			{"/live/a?close&close", "x", "more than once", "bad-parameter"},
			{"/live/_publish", `{"channel":"a","close":1}`, "close is true or false", "bad-body"},
			{"/live/_publish", `{"channel":"a","state":1,"close":true}`, "nothing of an event", "bad-body"},
			{"/live/_publish", `{"channel":"a/","close":true}`, "a/", "bad-channel"},
		} {
			if doc := wantProblem(t, ask(t, e, asBackend("POST", tt.path, tt.body)), 400, tt.kind); !strings.Contains(doc.Detail, tt.says) {
				t.Errorf("%s %s: %q, want %q", tt.path, tt.body, doc.Detail, tt.says)
			}
		}
		mustPost(t, e, "/live/a?close=0", "x")
		mustPost(t, e, "/live/_publish", `{"channel":"a","data":"y","close":false}`)

		// A body of many events closes when it ends, and not when it fails.
		resp := ask(t, e, asBackend("POST", "/live/a?close", "1\n2\n", "Content-Type: application/x-ndjson"))
		if body := bodyOf(t, resp); resp.StatusCode != 200 || !strings.HasPrefix(body, `{"published":3,`) {
			t.Errorf("lines: %d %s", resp.StatusCode, body)
		}
		wantProblem(t, ask(t, e, asBackend("POST", "/live/a", "z")), 409, "closed")
		wantProblem(t, ask(t, e, asBackend("POST", "/live/b?close", "event: evstream.x\ndata: 1\n\n", "Content-Type: text/event-stream")), 400, "bad-event")
		mustPost(t, e, "/live/b", "z")
		resp = ask(t, e, asBackend("POST", "/live/_publish", `[{"channels":["c","d"],"data":"x","close":true},{"channel":"c","data":"y"}]`))
		if doc := wantProblem(t, resp, 409, "closed"); doc.Event != 2 || *doc.Published != 2 {
			t.Errorf("a batch: %+v", doc)
		}
		if got := append(kept(t, e, "a"), kept(t, e, "d")...); !slices.Equal(got, []string{":x", ":y", ":1", ":2", ":x"}) {
			t.Errorf("a and d keep %q", got)
		}
	})
}

func TestAPollSaysWhatIsClosed(t *testing.T) {
	eachServer(t, func(t *testing.T, on server) {
		e := on.start(t)
		poll := func(path, cursor string) (p struct {
			polled
			Closed []string
		},
		) {
			t.Helper()
			resp := ask(t, e, asBackend("GET", path, "", "Accept: application/json", "Last-Event-ID: "+cursor))
			if body := bodyOf(t, resp); json.Unmarshal([]byte(body), &p) != nil || resp.StatusCode != 200 {
				t.Fatalf("%d %s", resp.StatusCode, body)
			}
			return p
		}
		begin := poll("/live/?channel=a&channel=b&poll=1", "").Cursor
		mustPost(t, e, "/live/a?close", "last")
		p := poll("/live/?channel=a&channel=b&poll=1", begin)
		if !slices.Equal(p.data(), []string{"last"}) || !slices.Equal(p.Closed, []string{"a"}) {
			t.Errorf("after a was closed: %+v", p)
		}
		// It waits for b all the same, and is answered when that is closed.
		answered := make(chan []string, 1)
		go func() {
			p := poll("/live/?channel=a&channel=b&poll=1", p.Cursor)
			answered <- append(p.Closed, p.Cursor)
		}()
		eventually(t, "a poll", func() bool { return e.hub.Broker().Stats().Subscriptions == 1 })
		closing := broker.Op{Kind: broker.KindClose, Channel: "b"} // over another connection than the poll's
		if _, err := e.hub.Broker().Publish(t.Context(), []broker.Op{closing}); err != nil {
			t.Fatal(err)
		}
		if got := <-answered; !slices.Equal(got, []string{"a", "b", "evstream.end"}) {
			t.Errorf("after b was closed: %q", got)
		}
		resp := ask(t, e, asBackend("GET", "/live/a?poll=1", "", "Accept: application/json", "Last-Event-ID: evstream.end"))
		if resp.StatusCode != http.StatusNoContent {
			t.Errorf("after the end a poll is answered %d", resp.StatusCode)
		}
		if p := poll("/live/a?poll=1&since=earliest", ""); !slices.Equal(p.data(), []string{"last"}) || p.Cursor != "evstream.end" {
			t.Errorf("later: %+v", p)
		}
	})
}
