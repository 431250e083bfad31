package runs_test

import (
	"context"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/runs"
)

// nodes is a broker whose log others share.
type nodes struct {
	*broker.Broker
	mu      sync.Mutex
	are     []string
	unknown bool
}

func (*nodes) Node() string { return "n1" }

func (n *nodes) Members() ([]string, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.are, !n.unknown
}

func (n *nodes) set(are ...string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.are = are
}

// Which nodes there are is known late: one that has just been started is not taken for gone,
// and one that was there is at once.
func TestANodeThatIsNotKnownYetIsNotGone(t *testing.T) {
	for name, tt := range map[string]struct {
		known, later bool
		unknown      time.Duration // how long it is not known who is there
		broken       time.Duration // after how long the run of the other node is; 0: never
	}{
		"new":                              {later: true},
		"never to be seen":                 {broken: 5 * time.Second},
		"there and then not":               {known: true, broken: time.Second},
		"who is there is unknown at first": {unknown: 8 * time.Second, broken: time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b, err := broker.New(broker.NewMemory(), broker.DefaultConfig())
				if err != nil {
					t.Fatal(err)
				}
				n := &nodes{Broker: b, are: []string{"n1"}}
				table := runs.New(n, func() int { return 10 }, slog.New(slog.DiscardHandler))
				ctx, cancel := context.WithCancel(context.Background())
				var done sync.WaitGroup
				done.Go(func() { table.Run(ctx) })
				defer func() { cancel(); done.Wait(); _ = b.Close() }()
				listen(b, table)
				if tt.known {
					n.set("n1", "n2")
				}
				n.mu.Lock()
				n.unknown = tt.unknown > 0
				n.mu.Unlock()
				synctest.Wait()
				r := run("a", "x")
				r.ID, r.Owner, r.State, r.Began = "n2-1", "n2", runs.Active, time.Now()
				if err := runs.Write(t.Context(), table, &r); err != nil {
					t.Fatal(err)
				}
				time.Sleep(700 * time.Millisecond)
				if tt.known {
					n.set("n1")
				}
				if tt.later {
					time.Sleep(time.Second)
					n.set("n1", "n2")
				}
				time.Sleep(tt.unknown)
				n.mu.Lock()
				n.unknown = false
				n.mu.Unlock()
				began := time.Now()
				for time.Since(began) < time.Minute && table.Get("a").State == runs.Active {
					time.Sleep(100 * time.Millisecond)
				}
				took := time.Since(began)
				switch state := table.Get("a").State; {
				case tt.broken == 0 && state != runs.Active:
					t.Errorf("it is %s after %v", state, took)
				case tt.broken > 0 && (state != runs.Broken || took > tt.broken):
					t.Errorf("it is %s after %v", state, took)
				}
			})
		})
	}
}
