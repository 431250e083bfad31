package e2e

import (
	"fmt"
	"net/http"
	"sync/atomic"
	"testing"
	"time"
)

// reloaded is the configuration after the nth reload: limits and headers differ.
func reloaded(n int) string {
	return config(fmt.Sprintf(`
	evstream {
		history %d
		max_connections %d
	}
`, 1000+n, 5000+n), fmt.Sprintf(`
	header X-Generation %d
	evstream /live/* {
		allow anyone subscribe,publish **
		retry %dms
	}
`, n, 1000+n))
}

func TestTwentyReloadsUnderTwoHundredStreamsDisturbNone(t *testing.T) {
	s := start(t, reloaded(0))
	streams := crowd(t, s, 200, "/live/a", plainH1, attachedH1, tlsH1, tlsH2)

	p := &publisher{client: plainClient(t), base: "http://" + s.plain + "/live", key: "reload"}
	var sent atomic.Int64
	stop, published := make(chan struct{}), make(chan error, 1)
	go func() {
		steady := time.NewTicker(5 * time.Millisecond)
		defer steady.Stop()
		for {
			select {
			case <-stop:
				published <- p.publish("a") // one more, after the last reload
				return
			case <-steady.C:
			}
			if err := p.publish("a"); err != nil {
				published <- err
				return
			}
			sent.Add(1)
		}
	}()
	for n := range 20 {
		before := sent.Load()
		s.reload(reloaded(n + 1))
		// Around a reload Caddy may close a new connection unread.
		eventually(t, fmt.Sprintf("reload %d answers", n+1), func() bool {
			answer, err := plainClient(t).Get("http://" + s.plain + "/page")
			if err != nil {
				return false
			}
			_ = answer.Body.Close()
			return answer.StatusCode == http.StatusOK && answer.Header.Get("X-Generation") == fmt.Sprint(n+1)
		})
		eventually(t, "the publisher goes on", func() bool {
			if len(published) > 0 {
				t.Fatal(<-published)
			}
			return sent.Load() > before+10
		})
		allAlive(t, streams)
	}
	close(stop)
	if err := <-published; err != nil {
		t.Fatal(err)
	}
	eventually(t, "all streams have all events", func() bool {
		allAlive(t, streams)
		return slowest(streams) == p.last
	})
	t.Logf("%d events were published", p.last)

	// What new streams see is the same log.
	late := watch(t, open(t, plainH1.client(t), "http://"+s.plain+"/live/a?since=earliest"))
	eventually(t, "a new stream has all events", func() bool { return late.at() == p.last || late.alive() != nil })
	if err := late.alive(); err != nil {
		t.Error(err)
	}
	if n := s.metric(`evstream_connections{broker="default"}`); n != 201 {
		t.Errorf("the metric counts %d streams", n)
	}
	for _, reason := range []string{"client", "slow", "ended", "shutdown", "reload", "refused", "max_age", "closed", "error"} {
		if n := s.disconnects(reason); n != 0 {
			t.Errorf("%d streams ended for the reason %q", n, reason)
		}
	}
	for name, want := range map[string]int{"events_published_total": p.last, "gaps_total": 0, "events_delivered_total": 201 * p.last} {
		if n := s.metric("evstream_" + name + `{broker="default"}`); n != want {
			t.Errorf("%s is %d, not %d", name, n, want)
		}
	}
}
