package stream

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/sse"
)

func TestPushIteratesAndStreamsToOneSession(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		s := serve(t, Options{})
		s.take()
		ctx := context.Background()
		if err := s.Push(ctx, sse.Event{Type: "hello", Data: []byte("a\nb")}); err != nil {
			t.Fatal(err)
		}
		s.expect(t, "event: hello\ndata: a\ndata: b\n\n")
		events := []sse.Event{{Data: []byte("1")}, {Data: []byte("2")}}
		if err := s.Iterate(ctx, slices.Values(events)); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if all := strings.Join(s.take(), ""); all != "data: 1\n\ndata: 2\n\n" {
			t.Errorf("iterated %q", all)
		}
		body := "id: 1-1\nevent: token\ndata: x\n\n: comment\n\nid: own\rdata: y\r\r"
		if err := s.Stream(ctx, strings.NewReader(body)); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if all := strings.Join(s.take(), ""); all != "event: token\ndata: x\n\nid: own\ndata: y\n\n" {
			t.Errorf("streamed %q", all)
		}
	})
}

func TestPushRefusesWhatPublishRefuses(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		s := serve(t, Options{})
		s.take()
		for want, e := range map[error]sse.Event{
			broker.ErrReservedType: {Type: "evstream.open"},
			broker.ErrReservedID:   {ID: "1-1"},
			sse.ErrType:            {Type: "a\rb"},
			sse.ErrID:              {ID: "a\x00b"},
			sse.ErrData:            {Data: []byte("\xff")},
			sse.ErrRetry:           {Retry: -1},
		} {
			if err := s.Push(context.Background(), e); !errors.Is(err, want) {
				t.Errorf("%+v: %v, want %v", e, err, want)
			}
		}
		if err := s.Stream(context.Background(), strings.NewReader("data: cut")); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("a body that ends inside an event: %v", err)
		}
		s.expect(t)
	})
}

func TestPushWaitsForASlowSession(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		s := serve(t, Options{})
		release := s.hold()
		big := sse.Event{Data: []byte(strings.Repeat("x", maxPushed-100))}
		ctx, cancel := context.WithCancel(context.Background())
		for range 2 { // one is being written, one waits
			if err := s.Push(ctx, big); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		blocked := make(chan error)
		go func() { blocked <- s.Push(ctx, big) }()
		synctest.Wait()
		cancel()
		if err := <-blocked; !errors.Is(err, context.Canceled) {
			t.Errorf("Push: %v, want context.Canceled", err)
		}
		go func() { blocked <- s.Push(context.Background(), big) }()
		synctest.Wait()
		release()
		if err := <-blocked; err != nil {
			t.Errorf("Push once there is room: %v", err)
		}
	})
}
