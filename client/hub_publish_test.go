package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestPublishingSaysWhatIsWrong(t *testing.T) {
	h := startHub(t)
	c := h.client(t, backend)
	for _, tt := range []struct {
		name, kind, text string
		p                Publication
	}{
		{"no channel", "", "empty", Publication{}},
		{"a name of the hub's", "", "begin with _", Publication{Channel: "_x"}},
		{"an empty segment", "", "segment", Publication{Channel: "a//b"}},
		{"a way up", "", "segment", Publication{Channel: "a/../b"}},
		{"a pattern", "bad-channel", "*", Publication{Channel: "a/*"}},
		{"a reserved type", "bad-event", "belong to the hub", Publication{Channel: "a", Type: "evstream.x"}},
		{"binary data", "bad-event", "UTF-8", Publication{Channel: "a", Data: []byte{0xff}}},
		{"an id that is a position", "bad-event", "", Publication{Channel: "a", ID: "123-0"}},
		{"a bad key", "bad-key", "visible ASCII", Publication{Channel: "a", Key: "a key"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := c.Publish(within(t), tt.p)
			if err == nil || Kind(err) != tt.kind || !strings.Contains(err.Error(), tt.text) {
				t.Errorf("%v, of the kind %q", err, Kind(err))
			}
		})
	}
	if _, err := h.client(t, "").Publish(within(t), Publication{Channel: "a"}); Kind(err) != "unauthorized" {
		t.Error(err)
	}
	if _, err := h.client(t, alice).Publish(within(t), Publication{Channel: "a"}); Kind(err) != "forbidden" {
		t.Error(err)
	}
}

func TestTheSameKeyPublishesOnce(t *testing.T) {
	h := startHub(t)
	c := h.client(t, backend)
	one := publish(t, c, Publication{Channel: "a", Key: "order-17", Data: []byte("paid")})
	again := publish(t, c, Publication{Channel: "a", Key: "order-17", Data: []byte("paid")})
	if one.Replayed || !again.Replayed || one.ID != again.ID {
		t.Errorf("%+v, %+v", one, again)
	}
	if _, err := c.Publish(within(t), Publication{Channel: "a", Key: "order-17", Data: []byte("other")}); Kind(err) != "key-reused" {
		t.Error(err)
	}
}

func TestWhoIsMeantGetsIt(t *testing.T) {
	h := startHub(t)
	c := h.client(t, backend)
	s := opened(t, c, SubscribeOptions{Channels: []string{"a"}})
	publish(t, c, Publication{Channel: "a", To: []string{"user:bob"}, Data: []byte("for bob")})
	publish(t, c, Publication{Channel: "a", Except: []string{s.Session()}, Data: []byte("for others")})
	publish(t, c, Publication{Channel: "a", To: []string{"session:" + s.Session()}, Data: []byte("for it"), Retry: time.Millisecond / 2})
	if e := next(t, s); string(e.Data) != "for it" {
		t.Errorf("got %+v", e)
	}
}

func TestManyEventsAreOneRequest(t *testing.T) {
	h := startHub(t)
	c := h.client(t, backend)
	ctx := within(t)
	list := []Publication{{Channel: "a", Data: []byte("<1>")}, {Channel: "b", Type: "x", ID: "own", Retry: time.Second, Data: []byte("2\n")}}
	done, err := c.PublishAll(ctx, "key", list)
	if err != nil || done.Count != 2 || len(done.IDs) != 2 || done.ID != done.IDs[1] {
		t.Fatalf("%+v, %v", done, err)
	}
	if again, err := c.PublishAll(ctx, "key", list); err != nil || again.ID != done.ID {
		t.Errorf("%+v, %v", again, err)
	}
	if none, err := c.PublishAll(ctx, "", nil); err != nil || none.Count != 0 {
		t.Errorf("%+v, %v", none, err)
	}
	s := c.Subscribe(ctx, SubscribeOptions{Channels: []string{"a", "b"}, Since: "earliest"})
	defer s.Close()
	if e := next(t, s); string(e.Data) != "<1>" {
		t.Errorf("got %+v", e)
	}
	if e := next(t, s); string(e.Data) != "2\n" || e.ID != "own" || e.Type != "x" {
		t.Errorf("got %+v", e)
	}
	// A bad one is named, and nothing is published.
	_, err = c.PublishAll(ctx, "", []Publication{{Channel: "a"}, {Channel: "a", Type: "evstream.x"}})
	if e, ok := errors.AsType[*Error](err); !ok || e.Event != 2 || e.Published != 0 {
		t.Errorf("%v", err)
	}
	for _, bad := range []Publication{{Channel: "a", Key: "x"}, {Channel: "a", Data: []byte{0xff}}} {
		if _, err := c.PublishAll(ctx, "", []Publication{bad}); err == nil || !strings.Contains(err.Error(), "event 1: ") {
			t.Errorf("%+v: %v", bad, err)
		}
	}
}

// seq yields publications, and then an error if it is not nil.
func seq(end error, list ...Publication) iter.Seq2[Publication, error] {
	return func(yield func(Publication, error) bool) {
		for _, p := range list {
			if !yield(p, nil) {
				return
			}
		}
		if end != nil {
			yield(Publication{}, end)
		}
	}
}

func TestLinesArePublishedAsTheyCome(t *testing.T) {
	h := startHub(t)
	c := h.client(t, backend)
	ctx := within(t)
	s := opened(t, c, SubscribeOptions{Channels: []string{"a"}})
	done, err := c.PublishLines(ctx, func(yield func(Publication, error) bool) {
		for i := range 3 {
			if !yield(Publication{Channel: "a", Data: fmt.Append(nil, i)}, nil) {
				t.Error("it ends early")
				return
			}
			if e := next(t, s); string(e.Data) != fmt.Sprint(i) { // while the request goes on
				t.Errorf("got %+v", e)
			}
		}
	})
	if err != nil || done.Count != 3 || done.ID != s.LastEventID() {
		t.Errorf("%+v, %v", done, err)
	}
	if done, err := c.PublishLines(ctx, seq(nil)); err != nil || done.Count != 0 {
		t.Errorf("no line: %+v, %v", done, err)
	}

	// What the sequence says is the error, and how far it came is known.
	broken := errors.New("the source is broken")
	done, err = c.PublishLines(ctx, seq(broken, Publication{Channel: "a"}))
	if !errors.Is(err, broken) || done.Count != 1 {
		t.Errorf("%+v, %v", done, err)
	}
	done, err = c.PublishLines(ctx, seq(nil, Publication{Channel: "a"}, Publication{Channel: "a", Type: "evstream.x"}))
	if e, ok := errors.AsType[*Error](err); !ok || e.Line != 2 || done.Count != 1 {
		t.Errorf("%+v, %v", done, err)
	}
	_, err = h.client(t, "wrong").PublishLines(ctx, seq(nil, Publication{Channel: "a"}))
	if Kind(err) != "unauthorized" {
		t.Error(err)
	}
	ended, cancel := context.WithCancel(ctx)
	_, err = c.PublishLines(ended, func(yield func(Publication, error) bool) {
		yield(Publication{Channel: "a"}, nil)
		cancel()
	})
	if _, unknown := errors.AsType[*UnknownError](err); !unknown {
		t.Errorf("a request that is cut: %v", err)
	}
}

func TestValuesAreWrittenAndRead(t *testing.T) {
	h := startHub(t)
	c := h.client(t, backend)
	ctx := within(t)
	if _, err := c.Value(ctx, "a"); Kind(err) != KindNoState {
		t.Error(err)
	}
	one, err := c.SetValue(ctx, "a", map[string]int{"home": 0}, Write{IfAbsent: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.SetValue(ctx, "a", 1, Write{IfAbsent: true}); Kind(err) != KindPreconditionFailed {
		t.Error(err)
	} else if e, _ := errors.AsType[*Error](err); e.Version != one {
		t.Errorf("the version is %q, not %q", e.Version, one)
	}
	two, err := c.PatchValue(ctx, "a", MergePatch, map[string]int{"home": 1}, Write{IfVersion: one})
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.PatchValue(ctx, "a", JSONPatch, json.RawMessage(`[{"op":"replace","path":"/away","value":1}]`), Write{})
	if e, ok := errors.AsType[*Error](err); !ok || e.Kind != KindConflict || e.Pointer == nil || *e.Pointer != "/away" || e.Operation == nil {
		t.Errorf("%+v", err)
	}
	v, err := c.Value(ctx, "a")
	if err != nil || string(v.JSON) != `{"home":1}` || v.Version != two {
		t.Errorf("%s, %+v, %v", v.JSON, v, err)
	}
	var doc struct{ Home int }
	if err := v.Decode(&doc); err != nil || doc.Home != 1 || (Value{}).Decode(&doc) == nil {
		t.Errorf("%+v, %v", doc, err)
	}
	sum, err := c.AddToValue(ctx, "n", "0.10", Write{})
	if err != nil || string(sum.JSON) != "0.1" {
		t.Errorf("%s, %v", sum.JSON, err)
	}
	if err := c.DeleteValue(ctx, "n", Write{IfVersion: "*"}); err != nil {
		t.Error(err)
	}
	if err := c.DeleteValue(ctx, "n", Write{}); Kind(err) != KindNoState {
		t.Error(err)
	}
	if _, err := c.PatchValue(ctx, "a", "application/json", nil, Write{}); err == nil {
		t.Error("a patch of another type")
	}
	if _, err := c.SetValue(ctx, "a", func() {}, Write{}); err == nil {
		t.Error("a value that is not JSON")
	}
	if _, err := c.SetValue(ctx, "a", 1, Write{IfAbsent: true, IfVersion: one}); err == nil {
		t.Error("two conditions")
	}
}

func TestAValueGoesWithItsSession(t *testing.T) {
	h := startHub(t)
	c := h.client(t, backend)
	s := opened(t, c, SubscribeOptions{Channels: []string{"lobby"}})
	watching := opened(t, c, SubscribeOptions{Channels: []string{"ada"}})
	if _, err := c.SetValue(within(t), "ada", "here", Write{Session: s.Session()}); err != nil {
		t.Fatal(err)
	}
	if e := next(t, watching); string(e.Value) != `"here"` {
		t.Errorf("got %+v", e)
	}
	s.Close()
	_, _ = s.Next()
	if e := next(t, watching); e.Kind != KindValue || e.Value != nil {
		t.Errorf("got %+v", e)
	}
}

// Many change one value at the same time.
func TestNoUpdateIsLost(t *testing.T) {
	h := startHub(t)
	c := h.client(t, backend)
	ctx := within(t)
	var all sync.WaitGroup
	const writers, times = 4, 10
	for range writers {
		all.Go(func() {
			for range times {
				if _, err := Update(ctx, c, "n", func(n int) (int, error) { return n + 1, nil }); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	if v, err := c.Value(ctx, "n"); err != nil || string(v.JSON) != fmt.Sprint(writers*times) {
		t.Errorf("%s, %v", v.JSON, err)
	}
	refused := errors.New("no")
	if _, err := Update(ctx, c, "n", func(int) (int, error) { return 0, refused }); !errors.Is(err, refused) {
		t.Error(err)
	}
	if _, err := Update(ctx, c, "n", func(s string) (string, error) { return s, nil }); err == nil {
		t.Error("a value of another type")
	}
}

func TestWatchYieldsEachValue(t *testing.T) {
	h := startHub(t)
	c := h.client(t, backend)
	var got []string
	for v, err := range c.Watch(within(t), "a", SubscribeOptions{}) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, string(v.JSON))
		if len(got) == 1 && v.Version != "" {
			t.Errorf("no value has the version %s", v.Version)
		}
		switch len(got) {
		case 1, 3:
			_, err = c.SetValue(within(t), "a", len(got), Write{})
		case 2:
			err = c.DeleteValue(within(t), "a", Write{})
		case 4:
			h.server.CloseClientConnections() // and nothing is told twice
			_, err = c.SetValue(within(t), "a", 5, Write{})
		}
		if err != nil {
			t.Fatal(err)
		}
		if len(got) == 5 {
			break
		}
	}
	if want := "[ 1  3 5]"; fmt.Sprint(got) != want {
		t.Errorf("got %q", got)
	}
	for _, err := range h.client(t, "").Watch(within(t), "a", SubscribeOptions{}) {
		if Kind(err) != "unauthorized" {
			t.Error(err)
		}
	}
}
