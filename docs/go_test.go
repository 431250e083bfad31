package docs

import (
	"log/slog"
	"testing"

	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/internal/redistest"
	"github.com/evstream/caddy-evstream/redisadapter"
	"github.com/evstream/caddy-evstream/sse"
)

// What docs/go.md shows and no example of a package has.

func openShared(url string) (*broker.Broker, error) {
	config, err := redisadapter.ParseURL(url) // redis://user:password@10.0.0.5:6379/0
	if err != nil {
		return nil, err
	}
	config.Prefix = "evstream:default" // as a Caddy has it for its broker "default"
	log, err := redisadapter.Open(config, slog.Default())
	if err != nil {
		return nil, err
	}
	return broker.New(log, broker.DefaultConfig())
}

func TestTheGoPageSharesALog(t *testing.T) {
	server := redistest.Start(t)
	var hubs [2]*broker.Broker
	for i := range hubs {
		hub, err := openShared("redis://" + server.Addr() + "/0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := hub.Close(); err != nil {
				t.Error(err)
			}
		})
		hubs[i] = hub
	}
	done, err := hubs[0].Publish(t.Context(), []broker.Op{{Kind: broker.KindEvent, Channel: "a", Event: sse.Event{Data: []byte("x")}}})
	if err != nil || done[0].Err != nil {
		t.Fatal(err, done)
	}
	if err := hubs[1].Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	if channel, ok := hubs[1].Channel("a"); !ok || channel.Newest != done[0].ID {
		t.Errorf("the other hub has %+v", channel)
	}
}
