package hub

import (
	"context"
	"slices"
	"sync"

	"github.com/evstream/caddy-evstream/channel"
)

// ReaderChange says that a session of this node has begun or ceased to read a channel.
type ReaderChange struct {
	Session *Session
	Channel string // a name, or the pattern that the session reads
	Left    bool   // it has ceased to: it has left, or has ended
	// Lost says that changes were lost before this one, because the function was too
	// slow. Nothing else is set.
	Lost bool
}

// maxChanges bounds the changes that wait for one function of WatchReaders.
const maxChanges = 10_000

// WatchReaders calls f when a session of this node begins or ceases to read a channel or
// a pattern that has a channel in common with pattern: with those that are read already,
// and then with each change, in order, from one goroutine, until stop is called or the
// hub is closed. f may call the hub, except Close and stop, and may block: up to 10,000
// changes wait for it, and if more come it is told that some were lost. stop waits for f.
func (h *Hub) WatchReaders(pattern string, f func(ReaderChange)) (stop func(), err error) {
	p, err := channel.ParsePattern(pattern)
	if err != nil {
		return nil, err
	}
	w := &watcher{pattern: p, more: make(chan struct{}, 1), stopped: make(chan struct{})}
	h.mu.Lock()
	for _, s := range h.sessions {
		for _, name := range s.Stream.Channels() {
			w.add(ReaderChange{Session: s, Channel: name})
		}
	}
	h.watchers = append(h.watchers, w)
	h.mu.Unlock()
	ended := make(chan struct{})
	h.cluster.goTask(func(ctx context.Context) {
		defer close(ended)
		for {
			for _, c := range w.take() {
				f(c)
			}
			select {
			case <-w.more:
			case <-w.stopped:
				return
			case <-ctx.Done():
				return
			}
		}
	})
	return func() {
		h.mu.Lock()
		h.watchers = slices.DeleteFunc(h.watchers, func(other *watcher) bool { return other == w })
		h.mu.Unlock()
		w.stop.Do(func() { close(w.stopped) })
		select {
		case <-ended:
		case <-h.cluster.ctx.Done(): // Close waits for it
		}
	}, nil
}

// watcher is one function of WatchReaders.
type watcher struct {
	pattern channel.Pattern
	more    chan struct{} // receives when there are changes
	stop    sync.Once     // closes stopped
	stopped chan struct{}

	mu      sync.Mutex // guards what follows; a leaf
	changes []ReaderChange
}

func (w *watcher) add(c ReaderChange) {
	p, err := channel.ParsePattern(c.Channel)
	if err != nil || !w.pattern.Overlaps(p) {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	switch n := len(w.changes); {
	case n < maxChanges:
		w.changes = append(w.changes, c)
	case n == maxChanges:
		w.changes = append(w.changes, ReaderChange{Lost: true})
	}
	select {
	case w.more <- struct{}{}:
	default:
	}
}

func (w *watcher) take() []ReaderChange {
	w.mu.Lock()
	defer w.mu.Unlock()
	changes := w.changes
	w.changes = nil
	return changes
}

// tellReaders tells those who watch of a channel that a session has begun or ceased to
// read. Hub.mu is held.
func (h *Hub) tellReaders(s *Session, name string, left bool) {
	for _, w := range h.watchers {
		w.add(ReaderChange{Session: s, Channel: name, Left: left})
	}
}

// tellAllReaders is tellReaders for all that a session reads. Hub.mu is held.
func (h *Hub) tellAllReaders(s *Session, left bool) {
	if len(h.watchers) == 0 {
		return
	}
	for _, name := range s.Stream.Channels() {
		h.tellReaders(s, name, left)
	}
}
