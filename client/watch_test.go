package client

import (
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
)

// eachStream calls a function for each stream that has begun, with how many there were.
type eachStream struct {
	n     atomic.Int32
	begun func(n int32)
}

func (s *eachStream) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := http.DefaultTransport.RoundTrip(r)
	if err == nil && r.Header.Get("Accept") == "text/event-stream" {
		s.begun(s.n.Add(1))
	}
	return resp, err
}

// That there is no value is told once, however often the stream comes back.
func TestWatchTellsOnceThatThereIsNoValue(t *testing.T) {
	h := startHub(t)
	writer, ctx := h.client(t, backend), within(t)
	var writing sync.WaitGroup
	defer writing.Wait()
	streams := &eachStream{begun: func(n int32) {
		if n != 2 {
			return
		}
		writing.Go(func() { // after the hub has said again that there is none
			if _, err := writer.SetValue(ctx, "a", 1, Write{}); err != nil {
				t.Error(err)
			}
		})
	}}
	c := newClient(t, h.url, Options{Credential: Token(backend), HTTP: &http.Client{Transport: streams}})
	var got []string
	for v, err := range c.Watch(ctx, "a", SubscribeOptions{}) {
		if err != nil {
			t.Fatal(err)
		}
		if got = append(got, string(v.JSON)); len(got) == 2 {
			break
		}
		h.server.CloseClientConnections()
	}
	if fmt.Sprintf("%q", got) != `["" "1"]` {
		t.Errorf("it has told %q, of %d streams", got, streams.n.Load())
	}
}
