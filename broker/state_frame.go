package broker

import (
	"github.com/evstream/caddy-evstream/internal/jsonvalue"
	"github.com/evstream/caddy-evstream/sse"
)

// The frames that tell readers of a value.

// announce appends a change to the feeds of changes that have readers.
func (b *Broker) announce(c *stateCell, old, next *stateVersion) {
	link := &stateLink{cell: c, id: next.id, told: old.told}
	if c.last != nil {
		c.last.next.Store(link)
	}
	c.last = link

	var block []byte
	m := &meta{channel: c.name, live: true, state: link}
	tell := func(feed *feed) {
		if feed == nil || len(feed.readers) == 0 {
			return
		}
		if feed.state == nil {
			b.addStateFeed(feed)
		}
		if block == nil {
			block = b.stateBlock(c, link, old, next)
		}
		b.append(feed.state, next.id, m, false, block)
		b.touch(feed.state)
	}
	tell(b.feeds[c.name])
	b.eachPattern(c.name, tell)
}

// stateBlock encodes a change, for readers that have the version before it.
func (b *Broker) stateBlock(c *stateCell, link *stateLink, old, next *stateVersion) []byte {
	event := sse.Event{Type: c.name, ID: next.id.String()}
	if patch := patchOf(c.policy.Format, old.value, next.value); patch != nil {
		event.Data = append(append([]byte(`{"`+patchMember+`":`), patch...), '}')
		link.base = old.id
		link.told += uint64(len(patch))
		next.told = link.told
	} else {
		event.Data = stateData(nil, next)
	}
	block := sse.AppendEvent(nil, &event)
	if link.base.IsZero() && next.value != nil {
		link.at = len(block) - len("}\n\n") - len(next.value)
	}
	return block
}

// stateData appends the data of the frame with a whole value, or of the one that says
// that there is none.
func stateData(dst []byte, v *stateVersion) []byte {
	if v.value == nil {
		return append(dst, `{"`+deletedMember+`":true}`...)
	}
	dst = append(dst, '{')
	dst = append(dst, jsonvalue.Quote(v.key)...)
	dst = append(dst, ':')
	dst = append(dst, v.value...)
	return append(dst, '}')
}

// patchOf is a patch from one value to another; nil if there is none that is shorter
// than the value.
func patchOf(format StateFormat, old, next []byte) []byte {
	if format == FormatRaw || old == nil || next == nil {
		return nil
	}
	from, err := jsonvalue.Parse(old)
	if err != nil {
		return nil
	}
	to, err := jsonvalue.Parse(next)
	if err != nil {
		return nil
	}
	if format == FormatJSONPatch {
		return jsonvalue.Diff(from, to, len(next))
	}
	merge := jsonvalue.MergeDiff(from, to)
	if merge == nil {
		return nil
	}
	if patch := merge.Append(nil); len(patch) < len(next) {
		return patch
	}
	return nil
}
