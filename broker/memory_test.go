package broker_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/broker/logtest"
	"github.com/evstream/caddy-evstream/sse"
)

func TestMemoryLogKeepsTheContract(t *testing.T) {
	logtest.Run(t, logtest.Harness{Open: func(*testing.T) broker.Log { return broker.NewMemory() }})
}

func TestAKeyIsRememberedForItsWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := broker.NewMemory()
		op := broker.Op{
			Kind: broker.KindEvent, Channel: "a", Event: sse.Event{Data: []byte("x")},
			Key: broker.Key{Identity: "me", Key: "k"},
		}
		give := func() broker.Result {
			t.Helper()
			r, err := log.Append(context.Background(), []broker.Op{op})
			if err != nil {
				t.Fatal(err)
			}
			return r[0]
		}
		first := give()
		time.Sleep(broker.KeyWindow - time.Millisecond)
		if r := give(); !r.Repeated || r.ID != first.ID {
			t.Errorf("within the window: %+v, want %s again", r, first.ID)
		}
		time.Sleep(time.Millisecond)
		if r := give(); r.Repeated || r.ID == first.ID {
			t.Errorf("after the window: %+v, want a new event", r)
		}
	})
}
