package broker

import "slices"

// Change is a channel or a pattern that a subscription has joined or left. Its reader
// is told between the events before and those after: nothing of a channel comes before
// the Change that says it was joined, or after the one that says it was left, unless
// another name selects it, too.
type Change struct {
	// Channel is the name that was joined or left.
	Channel string
	// Left says which.
	Left bool
	// Cursor is the subscription's when the reader is told.
	Cursor ID
	// Valued says that what was joined is a channel that had a value then.
	Valued bool
	// Replay says what comes of the history that the join asked for; nil if it
	// asked for none.
	Replay *Replay
}

// unheard are the changes that a reader has not been told.
type unheard struct{ list []Change }

// noteJoined has the reader told of a join. Subscription.mu is held.
func (s *Subscription) noteJoined(name string, valued bool, replay *Replay) {
	s.note(Change{Channel: name, Valued: valued, Replay: replay})
}

func (s *Subscription) note(c Change) {
	if s.changes == nil {
		s.changes = new(unheard)
	}
	s.changes.list = append(s.changes.list, c)
}

// noteLeft has the reader told of a leave. A join that it has not been told of is
// forgotten instead: it cannot have got anything of the channel since. So there are no
// more changes than twice the names that a subscription may have. Subscription.mu is
// held.
func (s *Subscription) noteLeft(name string) {
	if c := s.changes; c != nil {
		i := slices.IndexFunc(c.list, func(c Change) bool { return c.Channel == name && !c.Left })
		if i >= 0 {
			c.list = slices.Delete(c.list, i, i+1)
			return
		}
	}
	s.note(Change{Channel: name, Left: true})
}

// tellChanges adds to batch what was joined and left. Subscription.mu is held.
func (s *Subscription) tellChanges(batch *Batch) {
	for _, c := range s.changes.list {
		c.Cursor = s.cursor
		batch.Changes = append(batch.Changes, c)
	}
	s.changes = nil
}
