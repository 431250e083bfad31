package runs

import "context"

// wait is what those wait for who want to know when the run of a channel changes. A change
// wakes them alone: there may be many channels, and many who wait for each.
type wait struct {
	changed chan struct{} // closed by the next change
	waiting int           // Table.mu guards it
}

// changes wakes who waits for a change of the run of a channel. Table.mu is held.
func (t *Table) changes(name string) {
	if w := t.waits[name]; w != nil {
		close(w.changed)
		delete(t.waits, name)
	}
}

// watch returns the run of a channel, and a chan that is closed when it changes. leave must be
// called afterwards.
func (t *Table) watch(name string) (r *Run, changed <-chan struct{}, leave func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	w := t.waits[name]
	if w == nil {
		w = &wait{changed: make(chan struct{})}
		t.waits[name] = w
	}
	w.waiting++
	return t.runs[name], w.changed, func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		if w.waiting--; w.waiting == 0 && t.waits[name] == w {
			delete(t.waits, name)
		}
	}
}

// Wait waits until the run of a channel is not was, and returns it. The error is that of ctx.
func (t *Table) Wait(ctx context.Context, name string, was *Run) (*Run, error) {
	for {
		r, changed, leave := t.watch(name)
		if r == was {
			select {
			case <-changed:
			case <-ctx.Done():
			}
		}
		leave()
		switch {
		case r != was:
			return r, nil
		case ctx.Err() != nil:
			return nil, ctx.Err()
		}
	}
}
