package takeover

import (
	"errors"
	"io"
	"sync"
)

// feed is what was written and is still to be read. Writing never waits.
type feed struct {
	idle func() // called by Read before it waits, and before it returns the end

	mu    sync.Mutex // guards what follows
	ready sync.Cond  // something was added, or it is closed
	bytes []byte
	read  int   // how many of them were read
	err   error // why nothing comes any more; nil while more may come
}

func newFeed() *feed {
	f := &feed{idle: func() {}}
	f.ready.L = &f.mu
	return f
}

// errOver is the error of a write to a feed that is closed.
var errOver = errors.New("the recording is over")

// Write implements io.Writer.
func (f *feed) Write(p []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err != nil {
		return 0, errOver
	}
	f.bytes = append(f.bytes, p...)
	f.ready.Signal()
	return len(p), nil
}

// close ends the feed: its reader gets what is left, and then err. An event that has no
// blank line yet is complete at a clean end, which is io.EOF.
func (f *feed) close(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err != nil {
		return
	}
	if f.err = err; errors.Is(err, io.EOF) {
		f.bytes = append(f.bytes, "\n\n"...)
	}
	f.ready.Signal()
}

// Read implements io.Reader.
func (f *feed) Read(p []byte) (int, error) {
	f.mu.Lock()
	if f.read == len(f.bytes) {
		f.mu.Unlock()
		f.idle()
		f.mu.Lock()
		for f.read == len(f.bytes) && f.err == nil {
			f.ready.Wait()
		}
	}
	defer f.mu.Unlock()
	if f.read == len(f.bytes) {
		return 0, f.err
	}
	n := copy(p, f.bytes[f.read:])
	if f.read += n; f.read == len(f.bytes) {
		f.bytes, f.read = f.bytes[:0], 0
	}
	return n, nil
}
