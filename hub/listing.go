package hub

import (
	"strings"

	"github.com/evstream/caddy-evstream/access"
	"github.com/evstream/caddy-evstream/broker"
)

// Listing says which channels to list: those in Spans that May allows, that begin with
// Prefix and sort after After, up to Limit.
type Listing struct {
	Prefix, After string
	Limit         int
	Spans         []access.Span // in order, without overlaps
	May           func(channel string) bool
	Share         string // what is looked at counts in it; see ShareOf
}

// How many channels are described at a time, and after how many a listing is one that
// looks for what it may list.
const (
	listStep   = 1000
	listedFree = 2 * listStep
)

// listed is what a listing has found.
type listed struct {
	Listing
	list   []broker.ChannelInfo
	more   bool
	looked int
	done   func()
}

// List lists channels. more says that there are others. Channels out of the spans cost
// nothing; those within them that may not be listed count as what a stream looks at: the
// error is ErrLookRate.
func (h *Hub) List(l Listing) (list []broker.ChannelInfo, more bool, err error) {
	found := listed{Listing: l}
	defer func() {
		if found.done != nil {
			found.done()
		}
	}()
	for _, span := range l.Spans {
		switch {
		case span.Only:
			if span.Begin > l.After && strings.HasPrefix(span.Begin, l.Prefix) {
				if info, ok := h.broker.Channel(span.Begin); ok {
					found.take(&info)
				}
			}
		case strings.HasPrefix(span.Begin, l.Prefix):
			err = h.listSpan(&found, span.Begin)
		case strings.HasPrefix(l.Prefix, span.Begin):
			err = h.listSpan(&found, l.Prefix)
		}
		if err != nil || found.more {
			break
		}
	}
	return found.list, found.more, err
}

// listSpan goes on with the channels that begin with prefix.
func (h *Hub) listSpan(l *listed, prefix string) error {
	step := l.Limit - len(l.list) + 1
	for more, after := true, l.After; more && !l.more; step = listStep {
		if err := h.maySearch(l); err != nil {
			return err
		}
		var list []broker.ChannelInfo
		list, more = h.broker.Channels(prefix, after, step)
		l.looked += len(list)
		for i := range list {
			if after = list[i].Name; l.take(&list[i]) {
				break
			}
		}
	}
	return nil
}

// take adds a channel, if it may be listed. It reports whether there was no room: then
// there is more than is listed.
func (l *listed) take(info *broker.ChannelInfo) bool {
	if !l.May(info.Name) {
		return false
	}
	if l.more = len(l.list) == l.Limit; !l.more {
		l.list = append(l.list, *info)
	}
	return l.more
}

// maySearch counts all channels in the share of a listing that has looked at many, until
// it is known how many it looks at: of many listings at once each is counted.
func (h *Hub) maySearch(l *listed) error {
	if l.done != nil || l.Share == "" || l.looked < listedFree {
		return nil
	}
	meter := looks{&h.limits.looks, l.Share}
	if err := meter.May(); err != nil {
		h.Refused(err)
		return err
	}
	stats := h.broker.Stats()
	most := stats.Channels + stats.States
	meter.Count(most)
	l.done = func() { meter.meters.Give(meter.share, max(most-l.looked, 0)) }
	return nil
}
