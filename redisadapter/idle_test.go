package redisadapter

import (
	"testing"
	"time"

	"github.com/evstream/caddy-evstream/internal/redistest"
	"github.com/evstream/caddy-evstream/redisadapter/internal/entry"
)

// awaitBeats waits until the node has compared itself with Redis some times.
func awaitBeats(t *testing.T, l *Log, n int) {
	t.Helper()
	heard := func() time.Time {
		l.membership.mu.Lock()
		defer l.membership.mu.Unlock()
		return l.membership.heard
	}
	deadline := time.Now().Add(time.Minute)
	for last := heard(); n > 0; {
		if now := heard(); !now.Equal(last) {
			last, n = now, n-1
		}
		if time.Now().After(deadline) {
			t.Fatal("the node does not hear from Redis")
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func TestALogWithoutEntriesHasLostNothing(t *testing.T) {
	t.Parallel()
	for name, fill := range map[string]func(t *testing.T, l *Log, s *redistest.Server){
		"a new one": func(*testing.T, *Log, *redistest.Server) {},
		"one that is trimmed": func(t *testing.T, l *Log, s *redistest.Server) {
			appendAll(t, l, event("a", "1"), event("a", "2"))
			if err := s.Client().XTrimMaxLen(t.Context(), l.keys.stream(entry.Live), 0).Err(); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := redistest.Start(t)
			fill(t, openLog(t, logConfig(server, t)), server)
			l := openLog(t, logConfig(server, t))
			r := record(t, l)
			r.waitReady()
			awaitBeats(t, l, 3)
			r.mu.Lock()
			defer r.mu.Unlock()
			if len(r.starts) != 1 || len(r.cuts) != 1 {
				t.Errorf("%d starts, cuts %v", len(r.starts), r.cuts)
			}
		})
	}
}
