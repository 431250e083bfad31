package boltadapter

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/evstream/caddy-evstream/broker"
)

// generationsEnv is how many seeds TestLogOutlivesItsEnds runs; see `make kills`.
const generationsEnv = "EVSTREAM_GENERATIONS"

// TestLogOutlivesItsEnds uses a log that fills its segments in steps of any size, or none.
// At any operation of the disk, also while it is opened or closed, the process is killed or
// power is cut; then the disk has what was synced, and any part of the rest. So it goes on for
// some generations, and each has all that one before has acknowledged or served.
func TestLogOutlivesItsEnds(t *testing.T) {
	t.Parallel()
	seeds := 6
	if text := os.Getenv(generationsEnv); text != "" {
		var err error
		if seeds, err = strconv.Atoi(text); err != nil {
			t.Fatal(err)
		}
	}
	cuts, kills, torn := 0, 0, 0
	for seed := range seeds {
		g := &generations{t: t, seed: seed, r: seeded(seed), files: newMemDisk(), cfg: testConfig(tempLog(t)), keys: map[string]string{}, ids: map[string]broker.ID{}}
		for range 25 {
			g.live()
		}
		cuts, kills, torn = cuts+g.cuts, kills+g.kills, torn+g.torn
	}
	if cuts < seeds*5 || kills < seeds*5 || torn < seeds {
		t.Errorf("power was cut %d times, the process killed %d times, and %d ends were torn", cuts, kills, torn)
	}
}

type generations struct {
	t     *testing.T
	seed  int
	r     *rand.Rand
	files *memDisk
	base  *memDisk // what was durable before files.ops
	cfg   Config
	n     int

	acked []string // the entries that must be there
	doubt []string // those of the commit that was under way, which may follow, all or none
	keys  map[string]string
	ids   map[string]broker.ID // of the answers of keys
	last  broker.ID

	cuts, kills, torn int
}

// errEnded is what the disk answers once the process is killed, or power is cut.
var errEnded = errors.New("the process has ended")

// endAfter has the disk refuse everything after n operations. A write may be done in part.
func (g *generations) endAfter(n int) {
	ended, r := false, seeded(g.r.Int()) // the disk's own: upkeep writes, too
	g.files.mu.Lock()
	defer g.files.mu.Unlock()
	g.files.fail = func(op diskOp) (int, error) {
		if n--; n >= 0 && !ended {
			return 0, nil
		}
		if first := !ended; first {
			ended = true
			return r.IntN(len(op.data) + 1), errEnded
		}
		return 0, errEnded
	}
}

func (g *generations) fatalf(format string, args ...any) {
	g.t.Helper()
	g.t.Fatalf("seed %d, generation of step %d: %s", g.seed, g.n, fmt.Sprintf(format, args...))
}

// live is one generation.
func (g *generations) live() {
	g.t.Helper()
	g.files.mu.Lock()
	g.files.fail = nil
	g.files.mu.Unlock()
	if g.r.IntN(4) == 0 {
		g.endAfter(g.r.IntN(8)) // perhaps while it is opened
	}
	l, err := newLog(g.cfg, g.files, time.Now)
	if err != nil {
		g.t.Fatal(err)
	}
	steps := [][2]int64{{0, 0}, {64, 64}, {50, 300}, {leastFill, mostFill}}[g.r.IntN(4)]
	l.filler.least, l.filler.most = steps[0], steps[1]
	if err := l.Start(); err != nil {
		if !errors.Is(err, errEnded) {
			g.fatalf("it does not open: %v", err)
		}
		_ = l.Close()
		g.end()
		return
	}
	g.files.mu.Lock()
	g.files.fail = nil
	g.files.mu.Unlock()
	c := follow(g.t, l)
	g.holds(l, c)
	for range g.r.IntN(12) {
		g.step(l, c)
	}
	// The last thing it does is not done.
	g.endAfter(g.r.IntN(7))
	before := len(c.texts())
	switch g.r.IntN(4) {
	case 0:
		_ = c.end()
		err := l.Close()
		if err == nil && g.r.IntN(2) == 0 {
			return // it was closed in time, and goes on
		}
	case 1:
		l.nextSegment()
		fallthrough
	default:
		ops, key := g.ops()
		results, err := l.Append(context.Background(), ops)
		if err == nil {
			g.acknowledged(results, key)
			g.acked = c.texts()
		} else {
			g.doubt = textsOf(ops)
		}
		if got := c.texts(); err != nil && len(got) != before {
			g.fatalf("%v, and it was applied", err)
		}
		_ = c.end()
	}
	if l.phase.Load() != phaseClosed {
		l.crash()
	}
	g.end()
}

// end makes the disk what the next generation finds.
func (g *generations) end() {
	g.files.mu.Lock()
	defer g.files.mu.Unlock()
	g.files.fail = nil
	if g.r.IntN(2) == 0 {
		g.kills++
		return
	}
	g.cuts++
	files := powerCut(g.base, g.files.ops, len(g.files.ops), g.r)
	g.base = files.clone()
	g.files = files
}

// holds checks what was found.
func (g *generations) holds(l *Log, c *collector) {
	g.t.Helper()
	sizesHold(g.t, l)
	got := c.texts()
	switch {
	case slices.Equal(got, g.acked):
	case len(g.doubt) > 0 && slices.Equal(got, slices.Concat(g.acked, g.doubt)):
		g.torn++
	default:
		g.fatalf("it has %d entries, the last ones %.60q\n%d were acknowledged, the last ones %.60q\nunder way were %.60q", len(got), lastFew(got), len(g.acked), lastFew(g.acked), g.doubt)
	}
	// What is served now must stay.
	g.acked, g.doubt = got, nil
	for _, e := range c.origin.States {
		if want := lastOf(got, e.Channel); want != string(e.State.Value) {
			g.fatalf("%s is %s, want %s", e.Channel, e.State.Value, want)
		}
	}
	for _, name := range []string{"v", "w"} {
		if lastOf(got, name) != "" && !slices.ContainsFunc(c.origin.States, func(e broker.Entry) bool { return e.Channel == name }) {
			g.fatalf("%s is not there, want %s", name, lastOf(got, name))
		}
	}
	for key, data := range g.keys {
		r := appended(g.t, l, keyed(event("a", data), key))
		if id := g.ids[key]; !r[0].Repeated || r[0].ID != id {
			g.fatalf("the key %s gives %+v, and gave %s", key, r[0], id)
		}
	}
}

// ops are operations of one commit, and the data of the one that has a key.
func (g *generations) ops() (ops []broker.Op, key string) {
	g.n++
	data := fmt.Sprint("e", g.n, strings.Repeat(".", []int{0, 10, 100, 1000}[g.r.IntN(4)]))
	if g.r.IntN(15) == 0 {
		data += strings.Repeat("_", fillFrames)
	}
	ops = []broker.Op{event("a", data)}
	if g.r.IntN(3) == 0 {
		key = fmt.Sprint("k", g.n)
		ops[0] = keyed(ops[0], key)
	}
	if g.r.IntN(2) == 0 {
		ops = append(ops, set([]string{"v", "w"}[g.r.IntN(2)], strconv.Itoa(g.n)))
	}
	if g.r.IntN(3) == 0 {
		ops = append(ops, aged("b", fmt.Sprint("other ", g.n), 2*time.Hour))
	}
	return ops, key
}

func lastFew(texts []string) []string { return texts[max(len(texts)-6, 0):] }

func textsOf(ops []broker.Op) (texts []string) {
	for i := range ops {
		if op := &ops[i]; op.State != nil {
			texts = append(texts, op.Channel+"="+string(op.State.Value))
		} else {
			texts = append(texts, string(op.Event.Data))
		}
	}
	return texts
}

func (g *generations) acknowledged(results []broker.Result, key string) {
	g.t.Helper()
	for i := range results {
		if results[i].Err != nil || results[i].Repeated || !results[i].ID.After(g.last) {
			g.fatalf("result %d is %+v, after %s", i, results[i], g.last)
		}
		g.last = results[i].ID
	}
	if key != "" {
		g.ids[key] = results[0].ID
	}
}

// step does something whole.
func (g *generations) step(l *Log, c *collector) {
	g.t.Helper()
	switch g.r.IntN(8) {
	case 0:
		l.nextSegment()
	case 1:
		l.upkeep.Lock()
		err := l.checkpoint(false)
		l.upkeep.Unlock()
		if err != nil {
			g.t.Fatal(err)
		}
	case 2: // the disk is full, from any operation on that needs room
		n, r := g.r.IntN(5), seeded(g.r.Int())
		g.files.mu.Lock()
		g.files.fail = func(op diskOp) (int, error) {
			if op.kind != "write" && op.kind != "create" {
				return 0, nil
			}
			if n--; n >= 0 {
				return 0, nil
			}
			return r.IntN(len(op.data) + 1), syscall.ENOSPC
		}
		g.files.mu.Unlock()
		g.append(l, c, broker.ErrFull)
		g.files.mu.Lock()
		g.files.fail = nil
		g.files.mu.Unlock()
		sizesHold(g.t, l)
	default:
		g.append(l, c, nil)
		sizesHold(g.t, l)
	}
}

// append appends something, which may fail with that error: then nothing is there.
func (g *generations) append(l *Log, c *collector, may error) {
	g.t.Helper()
	ops, key := g.ops()
	results, err := l.Append(context.Background(), ops)
	if err != nil {
		if may == nil || !errors.Is(err, may) {
			g.fatalf("%v", err)
		}
		if got := c.texts(); !slices.Equal(got, g.acked) {
			g.fatalf("what was refused is applied: %q", got)
		}
		return
	}
	g.acknowledged(results, key)
	if key != "" {
		g.keys[key] = string(ops[0].Event.Data)
	}
	if g.acked = append(g.acked, textsOf(ops)...); !slices.Equal(c.texts(), g.acked) {
		g.fatalf("%.60q is applied, want %.60q", c.texts(), g.acked)
	}
}
