package e2e

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/stream"
)

func TestAPageIsToldOfEventsThatWereTrimmedWhileItWasAway(t *testing.T) {
	t.Parallel()
	s := start(t, config("evstream {\nhistory 5\n}\n", cuts))
	tab := newPage(t, "http://"+s.plain+"/page")
	p := &publisher{client: plainClient(t), base: "http://" + s.plain + "/away"}
	source := tab.follow(t, "/away/match", "score")
	eventually(t, "the stream opens", func() bool { return len(source.feed(t).Openings) == 1 })
	post := func(channel, data string) {
		t.Helper()
		if err := p.post(channel, data); err != nil {
			t.Fatal(err)
		}
	}
	post("match", "seen")
	eventually(t, "the first cut", func() bool { return source.feed(t).Cuts == 1 })
	for range 20 {
		post("match?event=score", "missed")
	}
	post("match", "after") // four of the twenty and this one are kept
	eventually(t, "what is kept arrives", func() bool {
		f := source.feed(t)
		return len(f.Events) > 0 && f.Events[len(f.Events)-1].Data == "after"
	})
	f := source.feed(t)

	if len(f.Gaps) != 1 {
		t.Fatalf("gaps: %+v", f.Gaps)
	}
	var gap struct{ Reason, Oldest, Newest string }
	if err := json.Unmarshal([]byte(f.Gaps[0].Data), &gap); err != nil {
		t.Fatal(err)
	}
	var data []string
	for _, e := range f.Events {
		data = append(data, e.Data)
	}
	if got := strings.Join(data, " "); got != "seen missed missed missed missed after" {
		t.Fatalf("the events are %s", got)
	}
	if gap.Reason != "trimmed" || gap.Oldest != f.Events[1].ID || gap.Newest != f.Events[5].ID {
		t.Errorf("the gap is %+v, the events are %+v", gap, f.Events)
	}
	onlyMessages(t, f, "seen after")
}

func TestAPageIsToldWhereItStandsWhenEventsPassItBy(t *testing.T) {
	t.Parallel()
	s := start(t, config("", `
	evstream /live/* {
		allow anyone subscribe,publish **
		heartbeat 1s
	}
`))
	tab := newPage(t, "http://"+s.plain+"/page")
	p := &publisher{client: plainClient(t), base: "http://" + s.plain + "/live"}
	source := tab.follow(t, "/live/match?event=score&event=message", "score", "chat")
	eventually(t, "the stream opens", func() bool { return len(source.feed(t).Openings) == 1 })
	for _, target := range []string{"match?event=chat", "match?event=chat", "match?event=score", "match", "match?event=chat"} {
		if err := p.post(target, "x"); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "a new position", func() bool {
		f := source.feed(t)
		return len(f.Moves) > 0 && len(f.Events) == 2 && f.Moves[len(f.Moves)-1].ID > f.Events[1].ID
	})
	f := source.feed(t)
	if f.Events[0].Type != "score" || f.Events[1].Type != "message" {
		t.Errorf("the events are %+v", f.Events)
	}
	onlyMessages(t, f, "x")
}

// onlyMessages checks that onmessage saw the events without a type, and none of
// the hub itself.
func onlyMessages(t *testing.T, f feed, want string) {
	t.Helper()
	var data []string
	for _, m := range f.Messages {
		data = append(data, m.Data)
		if m.Type != "message" {
			t.Errorf("onmessage saw %+v", m)
		}
	}
	if got := strings.Join(data, " "); got != want {
		t.Errorf("onmessage saw %q, not %q", got, want)
	}
}

func TestAPageWhoseStreamWasEndedStops(t *testing.T) {
	t.Parallel()
	// No request can end a stream for good yet, but the Go package can: the page's
	// first stream is one of it, and the hub answers when the page reconnects.
	b, err := broker.New(broker.NewMemory(), broker.DefaultConfig())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	streams := stream.NewServer(b)
	t.Cleanup(streams.Close)
	sessions := make(chan *stream.Session, 1)
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		session, err := streams.Session(stream.Options{
			Subscribe: broker.SubscribeOptions{Channels: []string{"answer"}},
			RetryMin:  10 * time.Millisecond, RetryMax: 10 * time.Millisecond,
		})
		if err != nil {
			t.Error(err)
			return
		}
		sessions <- session
		if err := session.Serve(w, r); err != nil {
			t.Error(err)
		}
	}))
	t.Cleanup(func() {
		app.CloseClientConnections()
		app.Close()
	})
	s := start(t, config("", `
	log
	@first {
		path /live/answer
		not header Last-Event-ID *
		not query last_event_id=*
	}
	route {
		reverse_proxy @first `+strings.TrimPrefix(app.URL, "http://")+`
		evstream /live/* {
			allow anyone subscribe **
		}
	}
`))
	tab := newPage(t, "http://"+s.plain+"/page")
	for _, url := range []string{"/live/answer", "/live/answer?last_event_id=evstream.end"} {
		source := tab.follow(t, url, "end")
		if !strings.Contains(url, "?") {
			eventually(t, "the stream opens", func() bool { return len(source.feed(t).Openings) == 1 })
			select {
			case session := <-sessions:
				session.End()
			default:
				t.Fatal("the first stream is not the application's")
			}
		}
		const closed = 2
		eventually(t, "the EventSource of "+url+" is closed", func() bool { return source.feed(t).State == closed })
		f := source.feed(t)
		if strings.Contains(url, "?") {
			continue
		}
		if len(f.Openings) != 1 || len(f.Events) != 1 || f.Events[0].ID != stream.EndID {
			t.Errorf("openings %+v, events %+v", f.Openings, f.Events)
		}
	}

	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+s.plain+"/live/answer", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Last-Event-ID", stream.EndID)
	answer, err := plainClient(t).Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusNoContent {
		t.Errorf("the status is %d", answer.StatusCode)
	}
}
