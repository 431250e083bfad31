package takeover

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/runs"
)

// groups is a log that counts the events of each append, and may fail one.
type groups struct {
	broker.Log
	mu     sync.Mutex
	events []int
	fail   int // which append of events fails, from 1; 0 for none
}

var errDown = errors.New("the log is down")

func (l *groups) Append(ctx context.Context, ops []broker.Op) ([]broker.Result, error) {
	if ops[0].Kind == broker.KindEvent {
		l.mu.Lock()
		l.events = append(l.events, len(ops))
		fails := len(l.events) == l.fail
		l.mu.Unlock()
		if fails {
			return nil, errDown
		}
	}
	return l.Log.Append(ctx, ops)
}

// recordingOn is a recording without a first reader, whose application has answered.
func recordingOn(t *testing.T, log broker.Log) *recording {
	t.Helper()
	h, streams := hubOn(t, log)
	rec := NewRecorder(streams, RecordConfig{}, slog.New(slog.DiscardHandler))
	owned, _, err := h.Runs().Claim(t.Context(), runs.Run{Channel: "a", Longest: time.Minute, Keep: time.Minute}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := owned.Answered(t.Context(), 200, nil, nil); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = owned.End(context.Background(), runs.Done, "", nil) })
	return &recording{rec: rec, owned: owned, feed: newFeed(), cancel: func() {}, client: t.Context()}
}

func manyEvents(n int) []byte {
	var all bytes.Buffer
	for i := range n {
		fmt.Fprintf(&all, "data: %d\n\n", i)
	}
	return all.Bytes()
}

// Readers of an application that never pauses get events on the way.
func TestEventsThatComeWithoutAPauseArePublishedInGroups(t *testing.T) {
	log := &groups{Log: broker.NewMemory()}
	g := recordingOn(t, log)
	if _, err := g.feed.Write(append(manyEvents(1000), "data: "+strings.Repeat("x", 70<<10)+"\n\ndata: last\n\n"...)); err != nil {
		t.Fatal(err)
	}
	g.feed.close(io.EOF)
	g.publish()
	if got := fmt.Sprint(log.events); got != "[256 256 256 233 1]" {
		t.Errorf("groups of %s", got)
	}
	if g.why() != nil {
		t.Errorf("it was cut off: %v", g.why().err)
	}
}

// What comes after events that could not be published must not be published.
func TestNothingIsPublishedAfterAFailure(t *testing.T) {
	log := &groups{Log: broker.NewMemory(), fail: 2}
	g := recordingOn(t, log)
	if _, err := g.feed.Write(manyEvents(1000)); err != nil {
		t.Fatal(err)
	}
	g.feed.close(io.EOF)
	g.publish()
	if got := fmt.Sprint(log.events); got != "[256 256]" {
		t.Errorf("groups of %s", got)
	}
	if why := g.why(); why == nil || why.code != codeLog || !errors.Is(why.err, errDown) {
		t.Errorf("it was cut off: %+v", why)
	}
}

// Nor what comes after another node has ended the run.
func TestNothingIsPublishedOfALostRun(t *testing.T) {
	log := &groups{Log: broker.NewMemory()}
	g := recordingOn(t, log)
	run := g.owned.Run()
	// The channel has another run by now.
	if err := g.rec.hub.Broker().SetFact(t.Context(), runs.FactPrefix+run.Channel, []byte(`{"id":"other","owner":"other","state":"done"}`), time.Time{}); err != nil {
		t.Fatal(err)
	}
	<-g.owned.Done()
	if _, err := g.feed.Write(manyEvents(10)); err != nil {
		t.Fatal(err)
	}
	g.feed.close(io.EOF)
	g.publish()
	if why := g.why(); len(log.events) != 0 || why == nil || !errors.Is(why.err, runs.ErrLost) {
		t.Errorf("groups of %v, cut off: %+v", log.events, why)
	}
}

// Readers are told one of the codes that are documented.
func TestAnExitHasACode(t *testing.T) {
	g := recordingOn(t, broker.NewMemory())
	ctx, cancel := context.WithCancel(t.Context())
	cancel() // nobody ends the run
	g.rec.hub.Runs().Exit(ctx, "the server is shutting down")
	if why := g.told(); why.state != runs.Broken || why.code != codeShutdown {
		t.Errorf("%+v", why)
	}
}
