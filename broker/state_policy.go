package broker

import (
	"errors"
	"fmt"
	"time"
)

// MaxState bounds the value of one channel, in bytes of JSON text.
const MaxState = 64 << 10

// StateFormat is how readers are told the changes of a value.
type StateFormat uint8

// The formats. In each of them the whole value is sent if there is no patch, or none
// that is shorter.
const (
	FormatRaw        StateFormat = iota // the whole value
	FormatMergePatch                    // RFC 7396
	FormatJSONPatch                     // RFC 6902
)

// The members of frames that are not the value.
const (
	patchMember   = "patch"
	deletedMember = "deleted"
)

// StatePolicy is how the value of a channel is sent to readers, and when it expires.
type StatePolicy struct {
	// Key is the name of the value in frames: {"value":42}. Empty is "value".
	Key string
	// Format is how changes are sent.
	Format StateFormat
	// TTL removes the value this long after it was last written. 0 is never.
	TTL time.Duration
}

// Validate reports the first impossible value.
func (p StatePolicy) Validate() error {
	switch {
	case p.Key == patchMember || p.Key == deletedMember:
		return fmt.Errorf("the key of a value must not be %q, which means something else", p.Key)
	case len(p.Key) > 64 || !line(p.Key):
		return errors.New("the key of a value is text of at most 64 bytes, without control characters")
	case p.Format > FormatJSONPatch:
		return fmt.Errorf("there is no state format %d", p.Format)
	case p.TTL != 0 && p.TTL < time.Millisecond:
		return fmt.Errorf("the time that a value lasts must be at least 1ms, not %s", p.TTL)
	}
	return nil
}

// line reports whether s is UTF-8 text that can stand in one line.
func line(s string) bool {
	for _, c := range s {
		if c < ' ' || c == '\ufffd' {
			return false
		}
	}
	return true
}

// statePolicyOf is the policy of a channel's value.
func (b *Broker) statePolicyOf(name string) StatePolicy {
	for i := range b.rules {
		if b.rules[i].pattern.Match(name) {
			return b.rules[i].state
		}
	}
	return b.cfg.State
}
