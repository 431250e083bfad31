package state

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/evstream/caddy-evstream/broker"
)

// Manager creates and removes values of type T. It holds no data: all Managers of a
// hub, on all its nodes, have the same values. Its methods are safe for concurrent
// use.
type Manager[T any] struct {
	broker *broker.Broker
}

// NewManager returns a manager of the values of a hub.
func NewManager[T any](b *broker.Broker) *Manager[T] { return &Manager[T]{broker: b} }

// Create sets the value of a channel to initial, unless it has one, and returns the
// Value of the channel. If it is created in several places at once, one of them sets
// it and all get that.
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

// Get returns the Value of a channel, if it has one. If that is removed later, its
// Get returns the zero T.
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
