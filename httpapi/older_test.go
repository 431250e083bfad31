package httpapi

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/sse"
)

// olderLog gives what it has retained when it is told to.
type olderLog struct {
	*broker.MemoryLog
	id      broker.ID // of the only event
	release chan struct{}
}

func (l *olderLog) Follow(ctx context.Context, f broker.Follower) error {
	f.Start(broker.Origin{ID: broker.ID{Ms: l.id.Ms + 10}, Older: true, Durable: true, Born: broker.ID{Ms: 1}, Issued: broker.ID{Ms: l.id.Ms + 10}})
	f.Ready()
	select {
	case <-l.release:
		f.Older([]broker.Entry{{ID: l.id, Version: broker.EntryVersion, Kind: broker.KindEvent, Channel: "a", Event: sse.Event{Data: []byte("kept")}}}, broker.ID{})
	case <-ctx.Done():
	}
	<-ctx.Done()
	return ctx.Err()
}

// TestWhoNeedsWhatIsStillBeingReadWaits, and is told to come back when it takes too long.
// Nobody is answered as if there were less than is kept.
func TestWhoNeedsWhatIsStillBeingReadWaits(t *testing.T) {
	t.Parallel()
	log := &olderLog{broker.NewMemory(), broker.ID{Ms: uint64(time.Now().UnixMilli()) - 1000}, make(chan struct{})}
	e := hubHandler(t, hubSetup{log: log})
	before := broker.ID{Ms: log.id.Ms - 1}.String()
	asks := map[string]string{ // and what the answer has
		"/live/a?poll=1&last_event_id=" + before: "kept",
		"/live/a?poll=1&since=earliest":          "kept",
		"/live/a?poll=1&last=1":                  "kept",
		"/live/a?info":                           `"events":1`,
		"/live/_channels":                        `"a"`,
	}
	for path := range asks {
		ctx, cancel := context.WithDeadline(t.Context(), time.Now())
		resp := hubAsk(t, e, hubRequest("GET", path, "", "Accept: application/json").WithContext(ctx))
		cancel()
		if doc := wantProblem(t, resp, http.StatusServiceUnavailable, "unavailable"); !strings.Contains(doc.Detail, "being loaded") || resp.Header.Get("Retry-After") == "" {
			t.Errorf("%s: %+v, %v", path, doc, resp.Header)
		}
	}
	if resp := hubAsk(t, e, hubRequest("GET", "/live/a?poll=1", "", "Accept: application/json")); resp.StatusCode != http.StatusOK {
		t.Errorf("who begins now gets %d", resp.StatusCode)
	}
	waited := make(chan string)
	for path := range asks {
		go func() {
			resp := hubAsk(t, e, hubRequest("GET", path, "", "Accept: application/json"))
			if body := bodyOf(t, resp); resp.StatusCode != http.StatusOK || !strings.Contains(body, asks[path]) {
				t.Errorf("%s: %d %s", path, resp.StatusCode, body)
			}
			waited <- path
		}()
	}
	select {
	case path := <-waited:
		t.Errorf("%s does not wait", path)
	default:
	}
	close(log.release)
	for range asks {
		<-waited
	}
}
