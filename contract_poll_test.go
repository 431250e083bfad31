package evstream

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// polled is the answer to a poll, read.
type polled struct {
	Events []struct{ ID, Channel, Event, Data string }
	Cursor string `json:"last_event_id"`
	Gap    *struct{ Reason, Oldest, Newest string }
}

func (p polled) data() []string {
	list := []string{}
	for _, e := range p.Events {
		list = append(list, e.Data)
	}
	return list
}

// pollOnce polls with the backend's rights.
func pollOnce(t *testing.T, e *testSite, path, cursor string) polled {
	t.Helper()
	resp := ask(t, e, asBackend("GET", path, "", "Accept: application/json", "Last-Event-ID: "+cursor))
	body := bodyOf(t, resp)
	var p polled
	if err := json.Unmarshal([]byte(body), &p); err != nil || resp.StatusCode != 200 || p.Cursor == "" {
		t.Fatalf("%d %s", resp.StatusCode, body)
	}
	return p
}

func TestTheFirstPollAnswersAtOnceWithACursor(t *testing.T) {
	eachServer(t, func(t *testing.T, on server) {
		e := on.start(t)
		mustPost(t, e, "/live/match.7", "before")
		resp := ask(t, e, request{"GET", "/live/match.7?poll=1", []string{"Accept: application/json"}, ""})
		if got, want := bodyOf(t, resp), `{"events":[],"last_event_id":"`+e.hub.Broker().Head().String()+`"}`; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
		for name, want := range map[string]string{"Content-Type": "application/json", "Cache-Control": "no-store"} {
			if got := resp.Header.Get(name); got != want {
				t.Errorf("%s %q, want %q", name, got, want)
			}
		}
	})
}

func TestPollsGoOnFromEachOther(t *testing.T) {
	eachServer(t, func(t *testing.T, on server) {
		e := on.start(t)
		cursor := pollOnce(t, e, "/live/match.7?poll=1", "").Cursor
		first := mustPost(t, e, "/live/match.7?event=score", `{"a":"<é>"}`)
		mustPost(t, e, "/live/match.7?id=own", "2")
		resp := ask(t, e, request{"GET", "/live/match.7?poll=1&last_event_id=" + cursor, []string{"Accept: */*"}, ""})
		want := `{"events":[{"id":"` + first + `","channel":"match.7","event":"score","data":"{\"a\":\"<é>\"}"},` +
			`{"id":"own","channel":"match.7","event":"message","data":"2"}],"last_event_id":"` + e.hub.Broker().Head().String() + `"}`
		if got := bodyOf(t, resp); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
		var got []string
		for i := range 20 {
			for range i % 4 {
				mustPost(t, e, "/live/match.7", fmt.Sprint(i))
			}
			p := pollOnce(t, e, "/live/match.7?poll=1&timeout=0", cursor)
			cursor, got = p.Cursor, append(got, p.data()...)
		}
		if want := kept(t, e, "match.7"); len(got) != len(want) || p(want[2:]) != p(got[2:]) {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}

// p joins what events carry, however kept spells them.
func p(list []string) string {
	return strings.ReplaceAll(strings.Join(list, ","), ":", "")
}

func TestAPollStartsWhereItIsTold(t *testing.T) {
	eachServer(t, func(t *testing.T, on server) {
		e := on.start(t)
		for i := range 5 {
			mustPost(t, e, "/live/match.7", fmt.Sprint(i))
		}
		for path, want := range map[string][]string{
			"since=earliest":                      {"0", "1", "2", "3", "4"},
			"last=2":                              {"3", "4"},
			"since=1h&event=x":                    {},
			"last=1&envelope=1&channel=public/**": {"4"},
		} {
			if got := pollOnce(t, e, "/live/match.7?poll=1&"+path, "").data(); !slices.Equal(got, want) {
				t.Errorf("%s: got %q", path, got)
			}
		}
		gap := pollOnce(t, e, "/live/match.7?poll=1", "nonsense")
		if gap.Gap == nil || gap.Gap.Reason != "unknown" || gap.Gap.Oldest == "" || len(gap.Events) != 5 {
			t.Errorf("got %+v", gap)
		}
		resp := ask(t, e, request{"GET", "/live/match.9?poll=1&last_event_id=1-1", []string{"Accept: application/json"}, ""})
		if got := bodyOf(t, resp); !strings.Contains(got, `"gap":{"reason":"restarted","oldest":null,"newest":null}`) {
			t.Errorf("got %s", got)
		}
	})
}

func TestAPollHoldsSoMuchAndNoMore(t *testing.T) {
	eachServer(t, func(t *testing.T, on server) {
		e := on.start(t)
		var lines strings.Builder
		for range 990 {
			lines.WriteString(strings.Repeat("x", 4000))
			lines.WriteByte('\n')
		}
		mustPost(t, e, "/live/match.7", lines.String(), "Content-Type: application/x-ndjson")
		n, answers := 0, 0
		for next := (polled{}); n < 990; answers++ {
			next = pollOnce(t, e, "/live/match.7?poll=1&since=earliest", next.Cursor)
			if len(next.Events) == 0 || len(next.Events)*4000 > 1<<20+16*4000 {
				t.Fatalf("an answer has %d events", len(next.Events))
			}
			n += len(next.Events)
		}
		if n != 990 || answers != 4 {
			t.Errorf("%d events in %d answers", n, answers)
		}
	})
}

func TestPollsCountAgainstTheirAddress(t *testing.T) {
	eachServer(t, func(t *testing.T, on server) {
		const address = "192.0.2.1"
		e := on.start(t, func(c *siteConfig) { c.broker.MaxConnectionsPerIP = 1 })
		poll := request{"GET", "/live/match.7?poll=1", []string{"X-Forwarded-For: " + address}, ""}
		for range 2 { // when the second comes the first has departed
			if resp := ask(t, e, poll); resp.StatusCode != 200 {
				t.Errorf("%d %s", resp.StatusCode, bodyOf(t, resp))
			}
		}
		if err := e.hub.AddPoll(address, ""); err != nil {
			t.Fatalf("polls that were answered are counted: %v", err)
		}
		wantProblem(t, ask(t, e, poll), 429, "too-many-connections")
	})
}

func TestBadTimeoutsOfAPoll(t *testing.T) {
	eachServer(t, func(t *testing.T, on server) {
		e := on.start(t)
		for _, s := range []string{"61s", "61", "-1s", "-1", "soon", "", "9999999999999999999"} {
			doc := wantProblem(t, ask(t, e, request{"GET", "/live/match.7?poll=1&timeout=" + s, nil, ""}), 400, "bad-parameter")
			if !strings.Contains(doc.Detail, "such as 25s, at most 1m0s") {
				t.Errorf("%q: %s", s, doc.Detail)
			}
		}
	})
}
