// Package runs knows the runs of a broker's log: answers of applications that are
// recorded on channels. A channel has one run at a time, over all nodes of the log. Each
// is a fact of the log, changed under the condition that nobody else has changed it, so
// that it has one writer, and one end.
package runs

import (
	"encoding/json"
	"time"

	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/internal/errkind"
	"github.com/evstream/caddy-evstream/sse"
)

// State is how far a run is.
type State string

// The states, in their order.
const (
	Asking  State = "asking"  // the application has not answered yet
	Active  State = "active"  // its answer is being recorded
	Done    State = "done"    // the answer came to its end
	Stopped State = "stopped" // somebody has stopped it
	Broken  State = "broken"  // it was cut off
)

// Ended reports whether nothing comes any more.
func (s State) Ended() bool { return s != Asking && s != Active }

// Run is an answer that is recorded. It must not be modified.
type Run struct {
	ID     string    `json:"id"`             // begins with the name of its node
	Ask    string    `json:"ask"`            // identity of the request
	User   string    `json:"user,omitempty"` // who made it; "" for nobody known
	Share  string    `json:"share,omitempty"`
	Began  time.Time `json:"began"`
	State  State     `json:"state"`
	Reason string    `json:"reason,omitempty"` // why it is broken or stopped
	Ended  time.Time `json:"ended,omitzero"`

	// Status and Header are those of the answer, from Active on.
	Status int                 `json:"status,omitempty"`
	Header map[string][]string `json:"header,omitempty"`

	// From is the id of the entry after which its events come, from Active on.
	From string `json:"from,omitempty"`

	// Longest is how long it may take, Keep how long it is kept after its end.
	Longest time.Duration `json:"longest"`
	Keep    time.Duration `json:"keep"`
	// Cut is what its readers get last if it is broken.
	Cut []Mark `json:"cut,omitempty"`

	Channel string `json:"-"`
	Owner   string `json:"owner"` // the opening of the log that records it

	version broker.ID // of the fact
	unheard bool      // this node has written it, and the log has not told it yet
}

// Mark is an event that says how a run has ended.
type Mark struct {
	Type string `json:"type,omitempty"`
	Data string `json:"data"`
}

// Errors of a Table.
var (
	ErrNoRun       = errkind.New("not-found", "", "no answer is being recorded there")
	ErrTooManyRuns = errkind.New("overloaded", "", "too many answers are being recorded")
	ErrShareOfRuns = errkind.New("share", "share", "your share of answers that are being recorded is used up")
	// ErrLost is the error of a run that is another's by now, or nobody's: its node was
	// taken for dead.
	ErrLost = errkind.New("unavailable", "", "other nodes took the one that recorded the answer for dead")
)

const (
	maxText = 8 << 10 // of a run as JSON
	// grace is how long an unfinished run is known beyond its longest time: by then its
	// owner has ended it.
	grace = time.Minute
)

// text is the run as the log has it, and when the log forgets it.
func (r *Run) text() ([]byte, time.Time, error) {
	data, err := json.Marshal(r)
	if err != nil {
		return nil, time.Time{}, err
	}
	if len(data) > maxText {
		return nil, time.Time{}, errkind.New("too-large", "", "what is kept of the answer's header is too large")
	}
	if r.State.Ended() {
		return data, r.Ended.Add(r.Keep), nil
	}
	return data, r.Began.Add(r.Longest + grace), nil
}

// last are operations that publish marks and close a channel.
func last(name string, marks []Mark) []broker.Op {
	var ops []broker.Op
	for _, m := range marks {
		ops = append(ops, broker.Op{Kind: broker.KindEvent, Channel: name, Event: sse.Event{Type: m.Type, Data: []byte(m.Data)}})
	}
	if len(ops) == 0 {
		return []broker.Op{{Kind: broker.KindClose, Channel: name, Close: &broker.CloseOp{}}}
	}
	end := &ops[len(ops)-1]
	end.Kind, end.Close = broker.KindClose, &broker.CloseOp{Event: true}
	return ops
}
