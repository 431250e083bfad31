package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
	"testing"

	"github.com/evstream/caddy-evstream/broker"
)

func TestASubscriptionGetsWhatIsPublished(t *testing.T) {
	h := startHub(t)
	c := h.client(t, backend)
	s := opened(t, c, SubscribeOptions{Channels: []string{"match.*", "a b"[:1]}})
	done := publish(t, c, Publication{Channel: "match.7", Type: "score", Data: []byte("{\"home\":2}\nline")})
	if e := next(t, s); e.Kind != KindEvent || e.Channel != "match.7" || e.Type != "score" || string(e.Data) != "{\"home\":2}\nline" || e.ID != done.ID {
		t.Errorf("got %+v, published %+v", e, done)
	}
	publish(t, c, Publication{Channel: "a", ID: "order-17"})
	if e := next(t, s); e.Channel != "a" || e.Type != "" || len(e.Data) != 0 || e.ID != "order-17" || s.LastEventID() != "order-17" {
		t.Errorf("got %+v, and the id to come back with is %q", e, s.LastEventID())
	}
	if s.Session() == "" {
		t.Error("the session has no id")
	}
}

func TestEachWayToBegin(t *testing.T) {
	h := startHub(t)
	c := h.client(t, backend)
	var ids []string
	for i := range 3 {
		ids = append(ids, publish(t, c, Publication{Channel: "a", Data: fmt.Append(nil, i)}).ID)
	}
	for _, tt := range []struct {
		name string
		o    SubscribeOptions
		want string
	}{
		{"from an id", SubscribeOptions{LastEventID: ids[0]}, "1"},
		{"from the oldest", SubscribeOptions{Since: "earliest"}, "0"},
		{"a time ago", SubscribeOptions{Since: "1h"}, "0"},
		{"the newest", SubscribeOptions{Last: 1}, "2"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.o.Channels = []string{"a"}
			s := c.Subscribe(within(t), tt.o)
			defer s.Close()
			if e := next(t, s); string(e.Data) != tt.want {
				t.Errorf("got %+v", e)
			}
		})
	}
	for _, o := range []SubscribeOptions{
		{}, {Channels: []string{""}}, {Channels: []string{"a"}, Last: -1}, {Channels: []string{"a"}, Last: 1, Since: "1s"},
	} {
		if _, err := c.Subscribe(within(t), o).Next(); err == nil {
			t.Errorf("%+v is taken", o)
		}
	}
}

// The connections are cut again and again, while events are published: each comes once,
// in order.
func TestNothingIsLostOrDoubledOverCuts(t *testing.T) {
	h := startHub(t)
	c := h.client(t, backend)
	s := opened(t, c, SubscribeOptions{Channels: []string{"a"}})
	const events, cut = 300, 50
	cuts := 0
	for i := range events {
		if i%cut == 0 {
			h.server.CloseClientConnections()
		}
		publish(t, c, Publication{Channel: "a", Data: fmt.Append(nil, i)})
	}
	for want := 0; want < events; {
		switch e := next(t, s); e.Kind {
		case KindEvent:
			if string(e.Data) != fmt.Sprint(want) {
				t.Fatalf("got %s, want %d", e.Data, want)
			}
			want++
		case KindRetry:
			cuts++
		}
	}
	if cuts == 0 {
		t.Error("no connection was cut")
	}
}

func TestAGapIsAnErrorAndNotTheEnd(t *testing.T) {
	h := startHub(t, func(c *broker.Config) { c.History.Events = 1 })
	c := h.client(t, backend)
	first := publish(t, c, Publication{Channel: "a", Data: []byte("0")})
	publish(t, c, Publication{Channel: "a", Data: []byte("1")})
	last := publish(t, c, Publication{Channel: "a", Data: []byte("2")})
	for _, tt := range []struct{ id, reason string }{{first.ID, "trimmed"}, {"1763000000000-0", "restarted"}, {"nonsense", "unknown"}} {
		s := c.Subscribe(within(t), SubscribeOptions{Channels: []string{"a"}, LastEventID: tt.id})
		_, err := s.Next()
		gap, ok := errors.AsType[*GapError](err)
		if !ok || gap.Reason != tt.reason || gap.Newest != last.ID || gap.Error() == "" {
			t.Errorf("%s: %+v, %v", tt.reason, gap, err)
		}
		if e := next(t, s); string(e.Data) != "2" {
			t.Errorf("%s: after the gap comes %+v", tt.reason, e)
		}
		s.Close()
	}
	seen := 0
	for _, err := range c.Subscribe(within(t), SubscribeOptions{Channels: []string{"a"}, LastEventID: first.ID}).All() {
		if _, ok := errors.AsType[*GapError](err); ok != (seen == 0) {
			t.Fatalf("%d: %v", seen, err)
		}
		if seen++; seen == 2 {
			break
		}
	}
}

func TestASubscriptionEndsWithItsChannels(t *testing.T) {
	h := startHub(t)
	c := h.client(t, backend)
	s := opened(t, c, SubscribeOptions{Channels: []string{"a", "b"}})
	if _, err := c.CloseChannel(within(t), Publication{Channel: "a", Data: []byte("last")}); err != nil {
		t.Fatal(err)
	}
	if e := next(t, s); string(e.Data) != "last" {
		t.Errorf("got %+v", e)
	}
	if e := next(t, s); e.Kind != KindClosed || e.Channel != "a" {
		t.Errorf("got %+v", e)
	}
	if _, err := c.CloseChannel(within(t), Publication{Channel: "b"}); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if e, err := s.Next(); err != io.EOF {
			t.Errorf("%+v, %v", e, err)
		}
	}
	// What is left is read, and then it ends.
	var got []string
	for e, err := range c.Subscribe(within(t), SubscribeOptions{Channels: []string{"a"}, Since: "earliest"}).All() {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, string(e.Data))
	}
	if !reflect.DeepEqual(got, []string{"last"}) {
		t.Errorf("got %q", got)
	}
	// A stream that has ended is 204.
	if _, err := c.Subscribe(within(t), SubscribeOptions{Channels: []string{"a"}, LastEventID: endID}).Next(); err != io.EOF {
		t.Errorf("after the end: %v", err)
	}
	if _, err := c.Publish(within(t), Publication{Channel: "a"}); Kind(err) != "closed" {
		t.Errorf("publishing to a closed channel: %v", err)
	}
	if _, err := c.PurgeHistory(within(t), "a"); err != nil {
		t.Fatal(err)
	}
	publish(t, c, Publication{Channel: "a"})
}

func TestAnEndHasItsReason(t *testing.T) {
	h := startHub(t)
	c := h.client(t, backend)
	s := opened(t, c, SubscribeOptions{Channels: []string{"a"}})
	if err := c.EndSession(within(t), s.Session(), "closing time"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Next(); err != io.EOF || s.EndReason() != "closing time" {
		t.Errorf("%v, %q", err, s.EndReason())
	}
}

func TestCloseAndContextsEndASubscription(t *testing.T) {
	h := startHub(t)
	c := h.client(t, backend)
	s := opened(t, c, SubscribeOptions{Channels: []string{"a"}})
	go s.Close()
	if _, err := s.Next(); !errors.Is(err, ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
	if _, err := s.Next(); !errors.Is(err, ErrClosed) {
		t.Errorf("and again: %v", err)
	}
	ctx, cancel := context.WithCancelCause(within(t))
	s = c.Subscribe(ctx, SubscribeOptions{Channels: []string{"a"}, Notices: true})
	next(t, s)
	why := errors.New("the program ends")
	go cancel(why)
	if _, err := s.Next(); !errors.Is(err, why) {
		t.Errorf("after the context: %v", err)
	}
}

func TestARefusedSubscriptionSaysWhy(t *testing.T) {
	h := startHub(t)
	for _, tt := range []struct{ name, token, channel, kind, text string }{
		{"no credential", "", "a", "unauthorized", "401"},
		{"a wrong one", "nonsense", "a", "unauthorized", "401"},
		{"no rule", alice, "users/bob", "forbidden", "alice has no permission to subscribe"},
		{"no channel", backend, "a//b", "bad-channel", "a//b"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := h.client(t, tt.token).Subscribe(within(t), SubscribeOptions{Channels: []string{tt.channel}}).Next()
			if Kind(err) != tt.kind || !strings.Contains(err.Error(), tt.text) {
				t.Errorf("%v", err)
			}
		})
	}
	// Another path of the same server.
	_, err := newClient(t, h.server.URL+"/other", Options{}).Subscribe(within(t), SubscribeOptions{Channels: []string{"a"}}).Next()
	if e, ok := errors.AsType[*Error](err); !ok || e.Status != 404 || e.Kind != "" || !strings.Contains(err.Error(), "not an evstream hub") {
		t.Errorf("another path: %v", err)
	}
}

func TestValuesComeWithTheirPatchesApplied(t *testing.T) {
	for name, format := range map[string]broker.StateFormat{"whole": broker.FormatRaw, "merge-patch": broker.FormatMergePatch, "json-patch": broker.FormatJSONPatch} {
		t.Run(name, func(t *testing.T) {
			h := startHub(t, func(c *broker.Config) { c.State.Format = format })
			c := h.client(t, backend)
			s := opened(t, c, SubscribeOptions{Channels: []string{"carts/*"}})
			type cart struct {
				Pen   int            `json:"pen"`
				Paper map[string]int `json:"paper"`
				Ink   []string       `json:"ink"`
			}
			want := cart{0, map[string]int{"a4": 250, "a5": 100}, []string{"black", "blue", "a colour with a long name"}}
			for i := range 20 {
				want.Pen = i
				if i == 10 {
					h.server.CloseClientConnections()
				}
				if _, err := c.SetValue(within(t), "carts/7", want, Write{}); err != nil {
					t.Fatal(err)
				}
				var got cart
				for got.Pen = -1; got.Pen != i; {
					e := next(t, s)
					if e.Kind == KindOpen && s.held != 0 {
						t.Errorf("%d bytes are held of the connection before", s.held)
					}
					if e.Kind != KindValue {
						continue
					}
					if e.Channel != "carts/7" || e.Data != nil {
						t.Fatalf("got %+v", e)
					}
					if err := json.Unmarshal(e.Value, &got); err != nil {
						t.Fatal(err)
					}
				}
				if !reflect.DeepEqual(got, want) {
					t.Fatalf("got %+v, want %+v", got, want)
				}
			}
			if err := c.DeleteValue(within(t), "carts/7", Write{}); err != nil {
				t.Fatal(err)
			}
			for {
				if e := next(t, s); e.Kind == KindValue {
					if e.Value != nil {
						t.Errorf("after the removal: %+v", e)
					}
					break
				}
			}
			if s.held != 0 || len(s.values) != 0 || (format != broker.FormatRaw) != s.patched {
				t.Errorf("%d bytes of %d values are held, patched: %t", s.held, len(s.values), s.patched)
			}
		})
	}
}

// Who may publish to a channel may publish what looks like its value, and like a patch
// that applies to nothing.
func TestAnImitatedPatchIsAnEvent(t *testing.T) {
	h := startHub(t)
	c := h.client(t, backend)
	s := opened(t, c, SubscribeOptions{Channels: []string{"a"}})
	publish(t, c, Publication{Channel: "a", Type: "a", Data: []byte(`{"patch":[{"op":"remove","path":"/x"}]}`)})
	publish(t, c, Publication{Channel: "a", Type: "a", Data: []byte(`{"deleted":false}`)})
	publish(t, c, Publication{Channel: "a", Type: "a", Data: []byte(`{"b":1,"c":2}`)})
	for _, want := range []string{`{"patch":[{"op":"remove","path":"/x"}]}`, `{"deleted":false}`, `{"b":1,"c":2}`} {
		e := next(t, s)
		for e.Kind == KindOpen || e.Kind == KindRetry {
			e = next(t, s)
		}
		if e.Kind != KindEvent || string(e.Data) != want {
			t.Errorf("got %+v, %s", e, e.Data)
		}
	}
}

func TestHeldValuesAreBounded(t *testing.T) {
	h := startHub(t, func(c *broker.Config) { c.State.Format = broker.FormatMergePatch })
	c := h.client(t, backend)
	s := opened(t, c, SubscribeOptions{Channels: []string{"a"}, MaxValues: 1000})
	long := strings.Repeat("x", 900)
	for i := range 3 { // one after the other, since a slow reader gets the newest only
		if _, err := c.SetValue(within(t), "a", map[string]any{"long": long, "n": i}, Write{}); err != nil {
			t.Fatal(err)
		}
		for e := next(t, s); e.Kind != KindValue; e = next(t, s) {
		}
	}
	if !s.patched || s.held < len(long) {
		t.Fatalf("%d bytes are held", s.held)
	}
	if _, err := c.SetValue(within(t), "a", map[string]any{"long": long + long}, Write{}); err != nil {
		t.Fatal(err)
	}
	if e, err := s.Next(); err == nil || !strings.Contains(err.Error(), "MaxValues") {
		t.Errorf("%+v, %v", e, err)
	}
}

func TestASessionJoinsAndIsSentTo(t *testing.T) {
	h := startHub(t)
	c := h.client(t, backend)
	ctx := within(t)
	s := opened(t, c, SubscribeOptions{Channels: []string{"lobby"}})
	publish(t, c, Publication{Channel: "rooms/1", Data: []byte("before")})
	reads, err := c.Join(ctx, s.Session(), "rooms/1", SubscribeOptions{Last: 1})
	if err != nil || !reflect.DeepEqual(reads, []string{"lobby", "rooms/1"}) {
		t.Fatalf("%q, %v", reads, err)
	}
	if e := next(t, s); e.Kind != KindJoined || e.Channel != "rooms/1" {
		t.Errorf("got %+v", e)
	}
	if e := next(t, s); string(e.Data) != "before" || e.Channel != "rooms/1" {
		t.Errorf("got %+v", e)
	}
	if err := c.SendTo(ctx, s.Session(), Publication{Type: "hint", Data: []byte("for you alone")}); err != nil {
		t.Fatal(err)
	}
	if e := next(t, s); e.Kind != KindDirect || e.Type != "hint" || string(e.Data) != "for you alone" || e.Channel != "" {
		t.Errorf("got %+v", e)
	}
	if reads, err := c.Leave(ctx, s.Session(), "rooms/1"); err != nil || len(reads) != 1 {
		t.Fatalf("%q, %v", reads, err)
	}
	if e := next(t, s); e.Kind != KindLeft || e.Channel != "rooms/1" {
		t.Errorf("got %+v", e)
	}
	if one, err := c.Session(ctx, s.Session()); err != nil || one.ID != s.Session() || one.Bearer != "backend" || len(one.Channels) != 1 {
		t.Errorf("%+v, %v", one, err)
	}
	n := 0
	for one, err := range c.AllSessions(ctx, SessionFilter{Channel: "lobby"}) {
		if err != nil || one.ID != s.Session() {
			t.Fatalf("%+v, %v", one, err)
		}
		n++
	}
	if n != 1 {
		t.Errorf("%d sessions", n)
	}
	if _, err := c.Leave(ctx, s.Session(), "rooms/1"); Kind(err) != "not-found" {
		t.Errorf("leaving again: %v", err)
	}
	if _, err := c.Session(ctx, ""); err == nil {
		t.Error("a session without an id")
	}
}

func TestChannelsAreListed(t *testing.T) {
	h := startHub(t)
	c := h.client(t, backend)
	ctx := within(t)
	for _, name := range []string{"a/1", "a/2", "b", "a/!'()~:@$&=+"} {
		publish(t, c, Publication{Channel: name})
	}
	var names []string
	for one, err := range c.AllChannels(ctx, "a/") {
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, one.Name)
	}
	if want := []string{"a/!'()~:@$&=+", "a/1", "a/2"}; !reflect.DeepEqual(names, want) {
		t.Errorf("got %q", names)
	}
	p, err := c.Channels(ctx, "", "a/1", 1)
	if err != nil || len(p.Channels) != 1 || p.Channels[0].Name != "a/2" || p.Next != "a/2" {
		t.Errorf("%+v, %v", p, err)
	}
	if i, err := c.Info(ctx, "b"); err != nil || i.Name != "b" || i.History.Events != 1 || i.LastEventID == "" {
		t.Errorf("%+v, %v", i, err)
	}
	if _, err := c.Info(ctx, "nothing"); Kind(err) != "not-found" {
		t.Error(err)
	}
	if _, err := c.Presence(ctx, "b", "", 0); Kind(err) != "not-found" {
		t.Error(err)
	}
}

func TestATicketOpensAStream(t *testing.T) {
	h := startHub(t)
	c := h.client(t, backend)
	asked := 0
	reader := newClient(t, h.url, Options{MinBackoff: 1, Credential: func(ctx context.Context) (Credential, error) {
		asked++
		ticket, _, err := c.Ticket(ctx)
		return Credential{Ticket: ticket}, err
	}})
	s := opened(t, reader, SubscribeOptions{Channels: []string{"a"}})
	h.server.CloseClientConnections()
	publish(t, c, Publication{Channel: "a", Data: []byte("x")})
	for {
		if e := next(t, s); e.Kind == KindEvent {
			break
		}
	}
	if asked != 1 {
		t.Errorf("%d tickets were asked for", asked)
	}
	if _, err := reader.Info(within(t), "a"); Kind(err) != "unauthorized" {
		t.Errorf("a ticket that is good for more than a stream: %v", err)
	}
}

func TestPresenceIsToldAndSet(t *testing.T) {
	h := startHub(t)
	c := h.client(t, userToken(t, "bob"))
	ctx := within(t)
	s := opened(t, c, SubscribeOptions{Channels: []string{"chat/1"}, Presence: true})
	e := next(t, s)
	for ; e.Kind != KindPresence || e.Presence.Count == 0; e = next(t, s) {
	}
	if p := e.Presence; e.Channel != "chat/1" || p.Count != 1 || p.Members == nil && p.Joined == nil {
		t.Errorf("got %+v", p)
	}
	if err := c.SetPresence(ctx, "chat/1", s.Session(), map[string]string{"status": "away"}); err != nil {
		t.Fatal(err)
	}
	if e = next(t, s); e.Kind != KindPresence || len(e.Presence.Updated) != 1 || string(e.Presence.Updated[0].Meta) != `{"status":"away"}` {
		t.Errorf("got %+v", e)
	}
	p, err := c.Presence(ctx, "chat/1", "", 0)
	if err != nil || p.Count != 1 || len(p.Members) != 1 || p.Members[0].User != "bob" || p.Members[0].Sessions != 1 {
		t.Errorf("%+v, %v", p, err)
	}
	if err := c.SetPresence(ctx, "chat/1", "", 1); Kind(err) != "bad-body" {
		t.Error(err)
	}
}
