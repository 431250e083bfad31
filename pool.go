package evstream

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/caddyserver/caddy/v2"

	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/hooks"
	"github.com/evstream/caddy-evstream/hub"
	"github.com/evstream/caddy-evstream/takeover/grip"
)

// pool holds the open hubs by hubKey. Each configuration that declares a broker
// holds one reference, so a hub lives over reloads.
var pool = caddy.NewUsagePool()

// hubs holds the open hubs, for metrics and the exit. Ranging over the pool
// instead would wait for a log that is being opened.
var hubs = hubSet{members: make(map[*openHub]struct{})}

type hubSet struct {
	mu      sync.Mutex // guards members
	members map[*openHub]struct{}
}

func (s *hubSet) add(h *openHub) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.members[h] = struct{}{}
}

func (s *hubSet) remove(h *openHub) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.members, h)
}

func (s *hubSet) all() []*openHub {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]*openHub, 0, len(s.members))
	for h := range s.members {
		list = append(list, h)
	}
	return list
}

// hubKey is a broker's name and what identifies its log, and nothing else: a
// changed limit must not open a second log.
type hubKey struct {
	name     string
	adapter  string // the module's id
	identity string
}

// openHub is a hub in the pool, and its log, which adapters reconfigure.
type openHub struct {
	*hub.Hub
	kind  string // of the adapter, such as bolt
	log   broker.Log
	start func() error // opens the log, if it has to be opened; once
	hooks *hooks.Hooks
	grip  *grip.IDs // of what was published with GRIP
}

// newOpenHub opens the log and starts the hub.
func newOpenHub(key hubKey, adapter Adapter, c hub.Config) (*openHub, error) {
	log, err := adapter.Open(key.name, logger)
	if err != nil {
		return nil, fmt.Errorf("opening the log: %w", err)
	}
	opened, err := hub.Open(log, c)
	if err != nil {
		return nil, errors.Join(err, log.Close())
	}
	h := &openHub{Hub: opened, kind: strings.TrimPrefix(key.adapter, "evstream.adapters."), log: log, hooks: hooks.Open(opened, hooks.Options{Logger: logger}), grip: grip.NewIDs(), start: func() error { return nil }}
	if s, ok := log.(interface{ Start() error }); ok {
		h.start = sync.OnceValue(s.Start)
	}
	hubs.add(h)
	return h, nil
}

// Destruct implements caddy.Destructor: no configuration declares the broker
// any more.
func (h *openHub) Destruct() error {
	hubs.remove(h)
	err := h.Close()
	ctx, cancel := context.WithTimeout(context.Background(), removedFlush)
	defer cancel()
	h.hooks.Flush(ctx)
	h.hooks.Close()
	return err
}

// setConfig applies the settings that can change while the hub runs, to the hub
// and to its log.
func (h *openHub) setConfig(s *brokerSettings) error {
	err := errors.Join(h.SetConfig(s.hub), h.hooks.SetConfig(hooks.Config{Hooks: s.hooks, Sink: s.emit, SinkEvents: s.emitted()}))
	if r, ok := s.adapter.(Reconfigurer); ok {
		err = errors.Join(err, r.Reconfigure(h.Name(), h.log))
	}
	return err
}

// Interface guard
var _ caddy.Destructor = (*openHub)(nil)
