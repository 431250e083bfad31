package state

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/evstream/caddy-evstream/broker"
)

// Manager makes and removes values of type T. It holds nothing itself: what one
// creates every other has, on every node of the hub. Its methods are safe for
// concurrent use.
type Manager[T any] struct {
	broker *broker.Broker
}

// NewManager returns a manager of the values of a hub.
func NewManager[T any](b *broker.Broker) *Manager[T] { return &Manager[T]{broker: b} }

// Create gives a channel the value initial, unless it has one already, and
// returns what it has. Of those who create one at the same time one does it,
// and all have that one's.
func (m *Manager[T]) Create(ctx context.Context, name string, initial T) (*Value[T], error) {
	v, err := New(m.broker, name, initial)
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(initial)
	if err != nil {
		return nil, fmt.Errorf("encoding the value of channel %q: %w", name, err)
	}
	results, err := m.broker.Publish(ctx, []broker.Op{{
		Kind: broker.KindState, Channel: name,
		State: &broker.StateOp{Value: text, If: broker.Condition{Kind: broker.IfAbsent}},
	}})
	if err != nil {
		return nil, err
	}
	if err := results[0].Err; err != nil && !errors.Is(err, broker.ErrStateMismatch) {
		return nil, err
	}
	return v, nil
}

// Get returns the value of a channel, if it has one. Should that be removed
// later, it is T's zero value.
func (m *Manager[T]) Get(name string) (*Value[T], bool) {
	if !m.Has(name) {
		return nil, false
	}
	return &Value[T]{broker: m.broker, channel: name}, true
}

// Has reports whether a channel has a value.
func (m *Manager[T]) Has(name string) bool { return m.broker.State(name).Value != nil }

// Remove removes the value of a channel, and reports whether it had one.
func (m *Manager[T]) Remove(ctx context.Context, name string) (bool, error) {
	return remove(ctx, m.broker, name)
}
