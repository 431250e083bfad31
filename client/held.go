package client

import (
	"fmt"
	"slices"
)

// hold applies a patch to the value before it, and keeps values for that. Where there is
// none, it reports that the stream is to begin again: a hub sends no patch to a stream
// that was not sent the value before. It is reported once for an event, because who may
// publish to a channel can publish what looks like a patch. That is an event then.
func (s *Subscription) hold(f *frame) (again bool, err error) {
	name, old := f.event.Channel, s.values[f.event.Channel]
	if f.patch != nil {
		value, err := applyPatch(old, f.patch)
		switch {
		case err == nil:
			f.event.Value = value
		case s.doubted != f.event.ID && f.event.ID != "":
			s.doubted, s.patched = f.event.ID, true
			return true, nil
		default:
			f.event.Kind = KindEvent
			return false, nil
		}
	}
	f.event.Data = nil
	if !s.patched {
		return false, nil
	}
	s.held += len(f.event.Value) - len(old)
	if f.event.Value == nil {
		delete(s.values, name)
		return false, nil
	}
	if s.held > s.opts.MaxValues {
		return false, fmt.Errorf("the values that the subscription reads have more than %d bytes, which is its MaxValues", s.opts.MaxValues)
	}
	if s.values == nil {
		s.values = make(map[string][]byte)
	}
	s.values[name] = slices.Clone(f.event.Value) // the caller owns the event
	return false, nil
}

// forget drops all values: they are told anew.
func (s *Subscription) forget() { s.values, s.held = nil, 0 }
