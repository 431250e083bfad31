package evstream

import (
	"errors"
	"fmt"
	"time"

	"github.com/evstream/caddy-evstream/presence"
)

// presenceRules says which channels have presence; nil if none has.
func (c *BrokerConfig) presenceRules() (*presence.Rules, error) {
	var list []presence.Rule
	for i := range c.Channels {
		ch := &c.Channels[i]
		policy, err := ch.presencePolicy()
		if err != nil {
			return nil, fmt.Errorf("channel %s: %w", ch.Pattern, err)
		}
		list = append(list, presence.Rule{Pattern: ch.Pattern, Policy: policy})
	}
	return presence.NewRules(list)
}

// presencePolicy returns how the presence of the channels is kept; nil if they have none.
func (c *ChannelConfig) presencePolicy() (*presence.Policy, error) {
	switch {
	case c.Presence:
		return &presence.Policy{Members: c.PresenceMembers, Grace: time.Duration(c.PresenceGrace), Meta: c.PresenceMeta}, nil
	case c.PresenceMembers != 0 || c.PresenceGrace != 0 || c.PresenceMeta != nil:
		return nil, errors.New("presence_members, presence_grace and presence_meta need presence beside them")
	}
	return nil, nil //nolint:nilnil // the channels have none
}
