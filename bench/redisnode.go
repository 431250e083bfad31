package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"

	"github.com/redis/go-redis/v9"

	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/redisadapter"
	"github.com/evstream/caddy-evstream/sse"
)

// Other servers that baselineMain can be.
const (
	pubsubKind    = "pubsub"    // with the address of Redis
	followersKind = "followers" // with that address, and the number of nodes
)

// handlerOf is the handler of baselineMain: the broadcaster, unless the arguments
// say otherwise.
func handlerOf(ctx context.Context, what []string) (http.Handler, error) {
	switch {
	case len(what) == 0:
		return newBroadcaster(), nil
	case what[0] == pubsubKind && len(what) == 2:
		return newPubsub(ctx, what[1])
	case what[0] == followersKind && len(what) == 3:
		n, err := strconv.Atoi(what[2])
		if err != nil || n < 1 {
			return nil, fmt.Errorf("%q is not a number of nodes", what[2])
		}
		return newFollowers(what[1], n)
	}
	return nil, fmt.Errorf("there is nothing to serve that is called %q", what)
}

// newPubsub is a broadcaster for many nodes: it publishes with the pub/sub of Redis,
// and sends what comes from there to its subscribers.
func newPubsub(ctx context.Context, address string) (http.Handler, error) {
	const topic = "bench"
	client := redis.NewClient(&redis.Options{Addr: address})
	subscription := client.Subscribe(ctx, topic)
	if _, err := subscription.Receive(ctx); err != nil {
		return nil, fmt.Errorf("subscribing at Redis: %w", err)
	}
	b := broadcasting()
	go func() {
		for message := range subscription.Channel() { // until the process ends
			b.send([]byte(message.Payload))
		}
	}()
	return b.routes(func(w http.ResponseWriter, r *http.Request) {
		data, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 1<<20))
		if err == nil {
			err = client.Publish(r.Context(), topic, data).Err()
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"published":1}`)
	}), nil
}

// newFollowers is n nodes in one process, without Caddy and without subscribers.
// The first one publishes, and all of them follow.
func newFollowers(address string, n int) (http.Handler, error) {
	config := redisadapter.DefaultConfig()
	config.Addresses = []string{address}
	var first *broker.Broker
	for range n {
		log, err := redisadapter.Open(config, nil)
		if err != nil {
			return nil, err
		}
		b, err := broker.New(log, broker.DefaultConfig())
		if err != nil {
			return nil, err
		}
		if err := b.Loaded(); err != nil {
			return nil, err
		}
		if first == nil {
			first = b
		}
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		data, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 1<<20))
		if err == nil {
			_, err = first.Publish(r.Context(), []broker.Op{{Kind: broker.KindEvent, Channel: "bench", Event: sse.Event{Data: data}}})
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"published":1}`)
	}), nil
}
