// Package presence knows who is in which channel: on this node by what it is told of
// sessions, and on the other nodes by what these tell it. It tells the sessions that
// ask for it. It knows nothing of connections, of HTTP and of the log.
//
// A member of a channel is a user who has a session there: with five sessions it is
// one member. A session without a user has no name and is only counted.
package presence

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/evstream/caddy-evstream/channel"
	"github.com/evstream/caddy-evstream/internal/jsonvalue"
)

// Bounds and defaults of a Policy.
const (
	DefaultMembers = 100
	MaxMembers     = 1000
	DefaultGrace   = 5 * time.Second
	MaxGrace       = time.Minute
	MaxMetaClaims  = 20
)

// MaxMeta bounds the metadata of a member, as JSON text, in bytes.
const MaxMeta = 1 << 10

// MaxUser bounds the name of a member, in bytes. The sessions of a user with a longer
// one are counted as those without a user.
const MaxUser = 256

// Policy says how the presence of a channel is kept. Zero fields are defaults.
type Policy struct {
	// Members is how many members are told by name; with more, only their number is.
	// Default: 100; at most 1000.
	Members int
	// Grace is how long a member without a session is one still. Default: 5s; at
	// most a minute.
	Grace time.Duration
	// Meta are the claims that a member's metadata has at first. Default: none.
	Meta []string
}

// fill sets the defaults, and reports the first impossible value.
func (p *Policy) fill() error {
	if p.Members == 0 {
		p.Members = DefaultMembers
	}
	if p.Grace == 0 {
		p.Grace = DefaultGrace
	}
	switch {
	case p.Members < 1 || p.Members > MaxMembers:
		return fmt.Errorf("presence_members must be from 1 to %d, not %d", MaxMembers, p.Members)
	case p.Grace < time.Millisecond || p.Grace > MaxGrace:
		return fmt.Errorf("presence_grace must be from 1ms to %s, not %s", MaxGrace, p.Grace)
	case len(p.Meta) > MaxMetaClaims:
		return fmt.Errorf("presence_meta takes at most %d claims, not %d", MaxMetaClaims, len(p.Meta))
	}
	for i, name := range p.Meta {
		if name == "" {
			return errors.New("presence_meta: the name of a claim is empty")
		}
		if slices.Contains(p.Meta[:i], name) {
			return fmt.Errorf("presence_meta: %q is named twice", name)
		}
	}
	return nil
}

// Rule gives the channels that match a pattern a policy. Without one they have no
// presence, and no later rule gives it to them.
type Rule struct {
	Pattern string
	Policy  *Policy
}

// Rules are parsed rules; the first whose pattern matches decides. They do not change
// once they are made, and are safe for concurrent use. A nil *Rules gives no channel
// presence.
type Rules struct{ list []rule }

type rule struct {
	pattern channel.Pattern
	policy  *Policy
}

// NewRules parses rules. It returns nil and no error where no channel has presence.
func NewRules(list []Rule) (*Rules, error) {
	rules, some := new(Rules), false
	for _, r := range list {
		p, err := channel.ParsePattern(r.Pattern)
		if err != nil {
			return nil, fmt.Errorf("channel: %w", err)
		}
		read := rule{pattern: p}
		if r.Policy != nil {
			policy := *r.Policy
			if err := policy.fill(); err != nil {
				return nil, fmt.Errorf("channel %s: %w", r.Pattern, err)
			}
			read.policy, some = &policy, true
		}
		rules.list = append(rules.list, read)
	}
	if !some {
		return nil, nil
	}
	return rules, nil
}

// policy is that of a channel; nil if the channel has no presence.
func (rs *Rules) policy(name string) *Policy {
	if rs == nil {
		return nil
	}
	for i := range rs.list {
		if rs.list[i].pattern.Match(name) {
			return rs.list[i].policy
		}
	}
	return nil
}

// ErrNotMember is the error of SetMeta if the user is no member of the channel.
var ErrNotMember = errors.New("the user is no member of the channel")

// ErrMeta is the error of metadata that cannot be a member's.
var ErrMeta = fmt.Errorf("the metadata of a member is a JSON object of at most %d bytes", MaxMeta)

// CheckMeta returns the metadata without spaces between its parts. The error wraps
// ErrMeta, also where the object has a member twice: readers would differ in which they
// see.
func CheckMeta(text []byte) (json.RawMessage, error) {
	if len(text) > 16*MaxMeta { // with spaces
		return nil, ErrMeta
	}
	compact, err := jsonvalue.Compact(text, MaxMeta)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMeta, err)
	}
	if compact[0] != '{' {
		return nil, ErrMeta
	}
	return compact, nil
}

// metaOf is the metadata that the policy takes of claims: nil for none, and false if
// it would be too large.
func (p *Policy) metaOf(claims map[string]any) (json.RawMessage, bool) {
	var meta map[string]any
	for _, name := range p.Meta {
		if value, ok := claims[name]; ok {
			if meta == nil {
				meta = make(map[string]any, len(p.Meta))
			}
			meta[name] = value
		}
	}
	if meta == nil {
		return nil, true
	}
	text, err := jsonvalue.Marshal(meta)
	if err != nil || len(text) > MaxMeta {
		return nil, false
	}
	return text, true
}
