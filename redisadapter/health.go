package redisadapter

import (
	"fmt"
	"sync/atomic"

	"github.com/evstream/caddy-evstream/broker"
)

// room is why Redis took no writes when it was last asked to: when something was
// published and, where nobody publishes, each time that the node wanted to trim. The zero
// value says that it did.
type room struct{ lack atomic.Pointer[error] }

// noted takes in how a write has ended that needs memory. An err that is not about room
// says nothing.
func (r *room) noted(err error) {
	switch code, text := replyOf(err); {
	case err == nil:
		if r.lack.Load() != nil {
			r.lack.Store(nil)
		}
	case code == "OOM", code == "MISCONF":
		lack := fmt.Errorf("%w (%s)", errMemory, text)
		if code == "MISCONF" {
			lack = fmt.Errorf("%w (%s)", errDisk, text)
		}
		r.lack.Store(&lack)
	}
}

// Health implements broker.HealthReporter.
func (l *Log) Health() (h broker.Health) {
	if lack := l.room.lack.Load(); lack != nil {
		h.Room = *lack
	}
	return h
}

var _ broker.HealthReporter = (*Log)(nil)
