package query

import (
	"slices"
	"strings"
	"testing"
)

func TestAParameterWithoutAMeaningIsRefused(t *testing.T) {
	a := Accepts{Also: []string{"token"}, Ignore: []string{"datastar", "utm_*"}}
	for _, tt := range []struct {
		of    Request
		query Query
		want  string // in the error; "" for none
	}{
		{Publish, "event=a&id=b&retry=1&except=c&token=x", ""},
		{Publish, "evnt=a", `"evnt" has no meaning when publishing (did you mean event?); the parameters here are close, event, except, id, retry, to, token`},
		{Publish, "channel=b", `"channel" has no meaning when publishing; the`},
		{Publish, "_=1&_x&datastar=%7B%7D&utm_source=a", ""},
		{Publish, "utmsource=a", `"utmsource"`},
		{Publish, "%65vent=a&&", ""},
		{Publish, "%zz=a", `"%zz"`},
		{Publish, "=a", `""`},
		{Publish, "last_event_id=1", `"last_event_id"`},
		{Remove, "histroy", "did you mean history?"},
		{Remove, "History", "did you mean history?"},
		{Remove, "HISTORY=1", "did you mean history?"},
		{Put, "sesion=a", "did you mean session?"},
		{Put, "session=a", ""},
		{Poll, "events=a&poll=1", "did you mean event?"},
		{Poll, "poll=1&lastEventId=a&LAST-EVENT-ID=b&evs_last_event_id=c&lasteventid", ""},
		{Info, "info&lastEventID=a", `"lastEventID"`},
		{Batch, "event=a", `"event" has no meaning when publishing to _publish; the parameters here are token`},
		{Lift, "user=a", ""},
		{Purge, "history&" + Query(strings.Repeat("x", 1000)), "x…"},
	} {
		err := a.Check(tt.of, tt.query)
		switch {
		case (err == nil) != (tt.want == ""), err != nil && !strings.Contains(err.Error(), tt.want):
			t.Errorf("%s, %q: %v, want %q", what[tt.of], tt.query, err, tt.want)
		case err != nil && len(err.Error()) > 300:
			t.Errorf("%q: the error has %d bytes", tt.query, len(err.Error()))
		}
	}
	if err := new(Accepts).Check(Batch, "event=a"); err == nil || !strings.HasSuffix(err.Error(), ", which has no parameters") {
		t.Error(err)
	}
}

func TestEachKindOfRequestHasAName(t *testing.T) {
	for of := Stream; of <= Lift; of <<= 1 {
		if what[of] == "" {
			t.Errorf("%b has none", of)
		}
	}
}

func TestIgnoredParametersAreListedOnce(t *testing.T) {
	a := Accepts{Ignore: []string{"utm_*"}}
	if got := a.Ignored(Stream, "evnt=a&event=b&evnt=c&utm_x=1&_=2&limit=3&poll=0"); !slices.Equal(got, []string{"evnt", "limit"}) {
		t.Errorf("got %q", got)
	}
	var many strings.Builder
	for i := range 100 {
		many.WriteString(strings.Repeat("x", i+1) + "&")
	}
	if got := a.Ignored(Stream, Query(many.String())); len(got) != maxIgnored {
		t.Errorf("got %d names", len(got))
	}
	if got := a.Ignored(Stream, ""); got != nil {
		t.Errorf("got %q", got)
	}
}

func TestWhatIsIgnoredIsNotTheHubs(t *testing.T) {
	if err := CheckIgnore([]string{"datastar", "utm_*", "e*", "user"}); err != nil {
		t.Error(err)
	}
	for _, bad := range []string{"", "*", "a*b", "a**", "history", "Last-Event-ID", "lasteventid", "ticket", "broker", "a b", "a=b", "a&b"} {
		if CheckIgnore([]string{bad}) == nil {
			t.Errorf("%q can be ignored", bad)
		}
	}
	all := Accepts{Ignore: []string{"h*", "e*"}}
	if all.Check(Put, "history") == nil || all.Check(Batch, "event=a") == nil {
		t.Error("a parameter of the hub was ignored")
	}
}

func TestTheNewestCursorCounts(t *testing.T) {
	for q, want := range map[Query]string{
		"": "", "c=1": "",
		"last_event_id=1":                                   "1",
		"last_event_id=1&lastEventId=2":                     "2",
		"lastEventId=2&last_event_id=1":                     "2",
		"lastEventID=2&last_event_id=1":                     "2",
		"Last-Event-ID=2&last_event_id=1":                   "2",
		"evs_last_event_id=2&last_event_id=1":               "2",
		"LASTEVENTID=2":                                     "2",
		"lastEventId=2&Last-Event-ID=3&evs_last_event_id=4": "4",
		"evs_last_event_id=4&lastEventId=2&lastEventId=3":   "3",
		"last_event_id=1&last_event_id=2":                   "2",
		"last_event_id=1&lastEventId=":                      "1",
		"lastEventId=2&lastEventId":                         "2",
		"lastEventIds=2":                                    "",
	} {
		if got, err := q.Cursor(); got != want || err != nil {
			t.Errorf("%q: %q, %v, want %q", q, got, err, want)
		}
	}
	if _, err := Query("lastEventId=%zz").Cursor(); err == nil {
		t.Error("a broken value was read")
	}
}

func TestNear(t *testing.T) {
	names := []string{"event", "except", "id", "retry", "history", "session"}
	for name, want := range map[string]string{
		"evnt": "event", "events": "event", "Event": "event", "ID": "id", "i": "", "idx": "", "histroy": "history", "sesion": "session",
		"session_id": "", "topic": "", "": "", "rety": "retry", strings.Repeat("e", 1000): "",
	} {
		if got := Near(name, names); got != want {
			t.Errorf("%q is near %q, want %q", name, got, want)
		}
	}
}
