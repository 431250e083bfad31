package runs

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"log/slog"
	"maps"
	"sync"
	"time"

	"github.com/evstream/caddy-evstream/broker"
)

// Log is what a Table needs of a broker.
type Log interface {
	ChangeFact(ctx context.Context, name string, data []byte, until time.Time, was broker.ID) (broker.ID, error)
	Publish(ctx context.Context, ops []broker.Op) ([]broker.Result, error)
	Node() string
	Members() ([]string, bool)
	SessionName(random string) string
}

// FactPrefix begins the names of the facts that are runs.
const FactPrefix = "run/"

// MaxRuns is how many runs a log has, with those that are kept. Over it, the one that is
// kept for longest is forgotten.
const MaxRuns = 10_000

// Table has the runs of a log. Its methods are safe for concurrent use.
type Table struct {
	log    Log
	logger *slog.Logger
	share  func() int // of MaxRuns that one caller may have, in percent
	owner  string     // names this opening of the log
	kick   chan struct{}
	owners owners    // of strays; used by Run only, and so is warned
	warned time.Time // when the log was told last that a run could not be ended

	mu      sync.Mutex // guards what follows; nothing is called while it is held
	runs    map[string]*Run
	anew    map[string]*Run   // collects the runs while the log tells all again; else nil
	own     map[string]*Owned // by id
	owns    map[string]*Owned // the same, by channel
	going   map[string]bool   // the runs that are being forgotten, by id
	unended map[string]end    // what the log did not take of own runs, by id
	settled bool              // all runs that the log had were told
	ending  string            // why own runs end at once; "" while they may begin
	index   index
	waits   map[string]*wait // by channel
	counts  Counts

	releases releases
}

// Counts are what a Table has counted.
type Counts struct {
	Going int              // runs of this node that are being recorded
	Kept  int              // that are known, of all nodes, and have ended
	Ended map[State]uint64 // runs of this node, by how they have ended
}

// New returns a table of what log says. Run has to run.
func New(log Log, share func() int, logger *slog.Logger) *Table {
	owner := log.Node()
	if owner == "" {
		owner = rand.Text()
	}
	return &Table{
		log: log, logger: logger, share: share, owner: owner, kick: make(chan struct{}, 1),
		runs: map[string]*Run{}, own: map[string]*Owned{}, owns: map[string]*Owned{}, going: map[string]bool{}, unended: map[string]end{}, index: newIndex(),
		waits: map[string]*wait{}, counts: Counts{Ended: map[State]uint64{}}, releases: newReleases(),
	}
}

// Reset says that the log tells all facts again, until Settled.
func (t *Table) Reset() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.anew = map[string]*Run{}
}

// Settled says that all facts were told.
func (t *Table) Settled() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.anew != nil {
		t.runs, t.anew = t.anew, nil
		t.reindex()
	}
	t.settled = true
	for name := range t.waits {
		t.changes(name)
	}
	t.wake()
}

// Hear takes in a fact about a channel.
func (t *Table) Hear(name string, n *broker.Notice) {
	if t.hearOwn(name, n) {
		return
	}
	var r *Run
	if n.Data != nil {
		r = new(Run)
		if json.Unmarshal(n.Data, r) != nil {
			return // of a version to come
		}
		r.Channel, r.version = name, n.ID
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	was := t.runs[name]
	if was != nil && was.unheard && (r == nil || was.version.After(r.version)) {
		return // it is about an earlier one
	}
	if was != nil && was.Owner == t.owner && (r == nil || r.ID != was.ID || r.Owner != t.owner) {
		if o := t.own[was.ID]; o != nil {
			o.lose()
		}
	}
	switch {
	case t.anew == nil:
		t.put(name, r)
	case r == nil:
		delete(t.anew, name)
	default:
		t.anew[name] = r
	}
}

// hearOwn is Hear of what this node has written and knows already. For others it returns
// false.
func (t *Table) hearOwn(name string, n *broker.Notice) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	was := t.runs[name]
	if was == nil || !was.unheard || n.Data == nil || n.ID != was.version || t.anew != nil {
		return false
	}
	r := *was
	r.unheard = false
	t.put(name, &r)
	return true
}

// wrote takes in what this node has written, before it is heard: whoever sees an answer
// begin or end may ask for it, or for the next one, at once.
func (t *Table) wrote(r Run) {
	r.unheard = true
	t.mu.Lock()
	defer t.mu.Unlock()
	if now := t.runs[r.Channel]; now == nil || r.version.After(now.version) {
		t.put(r.Channel, &r)
	}
	if now := t.anew[r.Channel]; t.anew != nil && (now == nil || r.version.After(now.version)) {
		t.anew[r.Channel] = &r
	}
}

// removed takes in that this node has removed a run, before that is heard.
func (t *Table) removed(r Run) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if now := t.runs[r.Channel]; now != nil && now.ID == r.ID {
		t.put(r.Channel, nil)
	}
	if now := t.anew[r.Channel]; now != nil && now.ID == r.ID {
		delete(t.anew, r.Channel)
	}
}

// wake has Run look for runs whose owner is gone.
func (t *Table) wake() {
	select {
	case t.kick <- struct{}{}:
	default:
	}
}

// Get returns the run of a channel, nil if it has none.
func (t *Table) Get(name string) *Run {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.runs[name]
}

// Loaded reports why it is not known yet which runs there are: broker.ErrLoading, else nil.
func (t *Table) Loaded() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.settled {
		return broker.ErrLoading
	}
	return nil
}

// Counts returns what was counted.
func (t *Table) Counts() Counts {
	t.mu.Lock()
	defer t.mu.Unlock()
	c := Counts{Going: len(t.own), Ended: map[State]uint64{}}
	maps.Copy(c.Ended, t.counts.Ended)
	for _, r := range t.runs {
		if r.State.Ended() {
			c.Kept++
		}
	}
	return c
}

// rewrite writes a run to the log, over the version that it has.
func (t *Table) rewrite(ctx context.Context, r *Run) error {
	data, until, err := r.text()
	if err != nil {
		return err
	}
	r.version, err = t.log.ChangeFact(ctx, FactPrefix+r.Channel, data, until, r.version)
	return err
}

// finish publishes marks and closes a channel, unless it is closed.
func (t *Table) finish(ctx context.Context, name string, marks []Mark) error {
	results, err := t.log.Publish(ctx, last(name, marks))
	if err != nil {
		return err
	}
	return ignore(results[len(results)-1].Err, broker.ErrChannelClosed)
}

func ignore(err, target error) error {
	if errors.Is(err, target) {
		return nil
	}
	return err
}
