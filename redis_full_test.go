package evstream

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/evstream/caddy-evstream/internal/redistest"
)

// usedMemory is what counts against the maxmemory of a Redis.
func usedMemory(t testing.TB, s *redistest.Server) (n int64) {
	t.Helper()
	_, rest, _ := strings.Cut(s.Client().Info(t.Context(), "memory").Val(), "used_memory:")
	if _, err := fmt.Sscan(rest, &n); err != nil {
		t.Fatal(err)
	}
	return n
}

const isFull = "the log is full: its Redis has no memory left"

func TestAFullRedisIsFullOnlyForAsLongAsItMust(t *testing.T) {
	limit := func(s *redistest.Server, bytes int64) {
		t.Helper()
		if err := s.Client().ConfigSet(t.Context(), "maxmemory", fmt.Sprint(bytes)).Err(); err != nil {
			t.Fatal(err)
		}
	}
	t.Run("of its own events", func(t *testing.T) {
		server := redistest.Start(t)
		n := newPair(t)
		adapter := sharedBy(server.Addr(), "") + "\t\thistory 1000 1s\n"
		load(t, pairOf(n.address, adapter, adapter, ""))
		n.awaitLoaded()
		limit(server, usedMemory(t, server)+4<<20)
		lines := strings.Repeat(`{"data":"`+strings.Repeat("x", 4<<10)+"\"}\n", 100)
		var answer *http.Response
		var body string
		for range 1000 {
			answer, body = n.ask("POST", n.a+"load", lines, header("Content-Type", "application/x-ndjson"))
			if answer.StatusCode != 200 {
				break
			}
		}
		n.wantUnavailable(answer, body, isFull)
		limit(server, usedMemory(t, server)-2<<20) // so that only what is past its time makes room
		eventually(t, "there to be room again", func() bool {
			answer, body := n.ask("POST", n.a+"x", "after")
			if answer.StatusCode != 200 {
				n.wantUnavailable(answer, body, isFull)
			}
			return answer.StatusCode == 200
		})
	})
	t.Run("of what others keep", func(t *testing.T) {
		server := redistest.Start(t)
		n := startPair(t, server.Addr(), server.Addr())
		s := subscribe(t, n.b+"x")
		mustPublish(t, n.a+"x", "before")
		s.expect("before")
		n.ask("PUT", n.a+"v", `"a value"`)
		limit(server, 1)
		for _, request := range [][3]string{{"POST", "x", "lost"}, {"PUT", "v", "1"}, {"PUT", "w", "1"}, {"PATCH", "w?incr=1", ""}} {
			answer, body := n.ask(request[0], n.a+request[1], request[2])
			n.wantUnavailable(answer, body, isFull)
		}
		if answer, body := n.ask("GET", n.b+"v", "", header("Cache-Control", "no-cache")); answer.StatusCode != 200 || answer.Header.Get("Evstream-Stale") != "" {
			t.Errorf("read %d %s", answer.StatusCode, body)
		}
		if answer, body := n.ask("DELETE", n.a+"v", ""); answer.StatusCode != 200 {
			t.Errorf("a value is not removed: %d %s", answer.StatusCode, body)
		}
		if answer, body := n.ask("GET", n.b+"v", "", header("Cache-Control", "no-cache")); answer.StatusCode != 404 {
			t.Errorf("read %d %s", answer.StatusCode, body)
		}
		late := subscribe(t, n.a+"x?since=earliest")
		late.expect("before")
		limit(server, 0)
		mustPublish(t, n.b+"x", "after")
		for _, s := range []*caddyStream{s, late} {
			s.expect("after")
		}
	})
}
