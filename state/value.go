// Package state has values of Go types that live in a hub. A value belongs to a
// channel: its subscribers get the value at once, and then every change. Concurrent
// changes are applied one after another, and none is lost.
//
//	users, err := state.New(hub, "user-count", 0)
//	…
//	n, err := users.Set(ctx, func(n int) int { return n + 1 })
//
// Values are encoded as JSON, by encoding/json. They are the values that are served
// over HTTP.
package state

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"

	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/channel"
)

// Value is the value of a channel, of type T. It holds no data: there may be any
// number of Values of one channel. Its methods are safe for concurrent use.
type Value[T any] struct {
	broker  *broker.Broker
	channel string
	initial T
}

// New returns the value of a channel. As long as the channel has none, Get returns
// initial, which is not written: see [Manager.Create]. The error wraps
// channel.ErrName.
func New[T any](b *broker.Broker, name string, initial T) (*Value[T], error) {
	if err := channel.Check(name); err != nil {
		return nil, err
	}
	return &Value[T]{broker: b, channel: name, initial: initial}, nil
}

// Get returns the value, as this node has applied it. There is an error if the
// channel's value cannot be decoded as a T.
func (v *Value[T]) Get() (T, error) { return v.decode(v.broker.State(v.channel).Value) }

// Set replaces the value by what set makes of it, and returns the new one. If another
// write comes first, set is called again with the value of that, so it must have no
// side effects. If the new value equals the old one nothing changes, and no reader is
// told.
//
// set may modify its argument. The errors are those of broker.Update:
// broker.ErrContended if another write came first too many times.
func (v *Value[T]) Set(ctx context.Context, set func(T) T) (T, error) {
	var now T
	_, err := v.broker.Update(ctx, broker.Update{Channel: v.channel}, func(old broker.State) ([]byte, error) {
		value, err := v.decode(old.Value)
		if err != nil {
			return nil, err
		}
		now = set(value)
		text, err := json.Marshal(now)
		if err != nil {
			return nil, fmt.Errorf("encoding the value of channel %q: %w", v.channel, err)
		}
		return text, nil
	})
	if err != nil {
		var none T
		return none, err
	}
	return now, nil
}

// Delete removes the value, if there is one.
func (v *Value[T]) Delete(ctx context.Context) error {
	_, err := remove(ctx, v.broker, v.channel)
	return err
}

// remove removes the value of a channel, and reports whether there was one.
func remove(ctx context.Context, b *broker.Broker, name string) (bool, error) {
	results, err := b.Publish(ctx, []broker.Op{{Kind: broker.KindState, Channel: name, State: &broker.StateOp{}}})
	switch {
	case err != nil:
		return false, err
	case errors.Is(results[0].Err, broker.ErrStateMismatch):
		return false, nil
	}
	return true, results[0].Err
}

// Watch yields the value, and then its changes; if these come faster than they are
// taken, the newest one. It ends when ctx does, or with an error that it yields last.
// A value that cannot be decoded as a T is yielded as an error, and does not end it.
func (v *Value[T]) Watch(ctx context.Context) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		var none T
		sub, err := v.broker.Subscribe(broker.SubscribeOptions{Channels: []string{v.channel}, Types: []string{v.channel}})
		if err != nil {
			yield(none, err)
			return
		}
		defer sub.Close()
		if !sub.Telling() { // there is no value yet
			if !yield(v.decode(nil)) {
				return
			}
		}
		batch := broker.Batch{Decode: true}
		for {
			if err := sub.Read(&batch); err != nil {
				yield(none, err)
				return
			}
			for i := range batch.Deliveries {
				// An event may have the channel's name as its type.
				if state := batch.Deliveries[i].State; state != nil && !yield(v.decode(state.Value)) {
					return
				}
			}
			if ctx.Err() != nil {
				return
			}
			if batch.More {
				continue
			}
			select {
			case <-sub.Wake():
			case <-ctx.Done():
				return
			}
		}
	}
}

// decode reads a value; nil is none.
func (v *Value[T]) decode(text []byte) (T, error) {
	if text == nil {
		return v.copyInitial()
	}
	var value T
	if err := json.Unmarshal(text, &value); err != nil {
		var none T
		return none, fmt.Errorf("the value of channel %q: %w", v.channel, err)
	}
	return value, nil
}

// copyInitial is a copy of the initial value, which the caller may modify.
func (v *Value[T]) copyInitial() (value T, err error) {
	text, err := json.Marshal(v.initial)
	if err == nil {
		err = json.Unmarshal(text, &value)
	}
	if err != nil {
		return value, fmt.Errorf("the initial value of channel %q: %w", v.channel, err)
	}
	return value, nil
}
