package httpapi

import (
	"context"
	"encoding/json"
	"net/http/httptest"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/evstream/caddy-evstream/access"
	"github.com/evstream/caddy-evstream/broker"
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
func pollOnce(t *testing.T, e *Handler, path, cursor string) polled {
	t.Helper()
	resp := ask(t, e, asBackend("GET", path, "", "Accept: application/json", "Last-Event-ID: "+cursor))
	body := bodyOf(t, resp)
	var p polled
	if err := json.Unmarshal([]byte(body), &p); err != nil || resp.StatusCode != 200 || p.Cursor == "" {
		t.Fatalf("%d %s", resp.StatusCode, body)
	}
	return p
}

func TestAPollWaitsForAnEvent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newTestHandler(t)
		cursor := pollOnce(t, e, "/live/match.7?poll=1", "").Cursor
		for query, want := range map[string]time.Duration{"": 25 * time.Second, "&timeout=40s": 40 * time.Second, "&timeout=3": 3 * time.Second, "&timeout=0": 0} {
			began := time.Now()
			got := pollOnce(t, e, "/live/match.7?poll=1"+query, cursor)
			if waited := time.Since(began); waited != want || len(got.Events) > 0 {
				t.Errorf("%q: waited %s, want %s", query, waited, want)
			}
		}
		began := time.Now()
		go func() {
			time.Sleep(7 * time.Second)
			mustPost(t, e, "/live/match.8", "of another channel")
			mustPost(t, e, "/live/match.7?event=other", "of another type")
			time.Sleep(time.Second)
			mustPost(t, e, "/live/match.7", "x")
		}()
		got := pollOnce(t, e, "/live/match.7?poll=1&event=message", cursor)
		if waited := time.Since(began); waited != 8*time.Second || !slices.Equal(got.data(), []string{"x"}) {
			t.Errorf("after %s got %+v", waited, got)
		}
		if got.Cursor != e.hub.Broker().Head().String() {
			t.Errorf("cursor %s", got.Cursor)
		}
	})
}

func TestAPollEndsWithTheClientAndTheServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newTestHandler(t)
		cursor := pollOnce(t, e, "/live/match.7?poll=1", "").Cursor
		began := time.Now()
		ctx, leave := context.WithTimeout(t.Context(), time.Second)
		defer leave()
		r := asBackend("GET", "/live/match.7?poll=1&last_event_id="+cursor, "", "Accept: application/json").build()
		serve(t, e, r.WithContext(ctx))
		if waited := time.Since(began); waited != time.Second {
			t.Errorf("the client left, and the poll waited %s", waited)
		}
		began = time.Now()
		time.AfterFunc(time.Second, func() { e.hub.Drain(0) })
		got := pollOnce(t, e, "/live/match.7?poll=1", cursor)
		if waited := time.Since(began); waited != time.Second || got.Cursor != cursor {
			t.Errorf("the server exits, and the poll waited %s", waited)
		}
	})
}

func TestAPollOfAClosedBrokerIsAnError(t *testing.T) {
	e := newTestHandler(t)
	sub, err := e.hub.Broker().Subscribe(broker.SubscribeOptions{Channels: []string{"a"}})
	if err != nil {
		t.Fatal(err)
	}
	sub.Close()
	if _, err := e.await(httptest.NewRequest("GET", "/", nil), sub, reading{who: access.AnonymousCaller()}, time.Hour); err == nil {
		t.Error("no error")
	}
}
