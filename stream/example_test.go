package stream_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"

	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/sse"
	"github.com/evstream/caddy-evstream/stream"
)

// live serves the channel that the path names.
func live(server *stream.Server) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		from := r.Header.Get("Last-Event-ID")
		if from == stream.EndID { // the stream was ended on purpose
			w.WriteHeader(http.StatusNoContent)
			return
		}
		session, err := server.Session(stream.Options{Subscribe: broker.SubscribeOptions{
			Channels: []string{r.PathValue("channel")},
			Start:    broker.Start{LastEventID: from},
		}})
		if err != nil { // a limit, or not a channel's name; nothing is written yet
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		// On Linux, without TLS, the stream goes on when the handler has returned.
		detached, err := session.Detach(w, r, stream.ConnOf(r))
		if !detached && err == nil {
			_ = session.Serve(w, r) // until the client leaves
		}
	}
}

// A net/http server without Caddy.
func Example() {
	b, err := broker.New(broker.NewMemory(), broker.DefaultConfig())
	if err != nil {
		panic(err)
	}
	defer b.Close()
	streams := stream.NewServer(b)
	defer streams.Close()
	mux := http.NewServeMux()
	mux.HandleFunc("GET /live/{channel...}", live(streams))
	server := httptest.NewUnstartedServer(mux)
	server.Config.ConnContext = stream.ConnContext // for ConnOf
	server.Start()
	defer server.Close()

	// A client that begins now …
	resp, err := http.Get(server.URL + "/live/match.7")
	if err != nil {
		panic(err)
	}
	defer resp.Body.Close()
	events := sse.NewDecoder(resp.Body, 64<<10)
	opening, err := events.Next()
	if err != nil {
		panic(err)
	}

	// … gets what is published from now on.
	_, err = b.Publish(context.Background(), []broker.Op{{
		Kind:    broker.KindEvent,
		Channel: "match.7",
		Event:   sse.Event{Type: "score", Data: []byte(`{"home":2}`)},
	}})
	if err != nil {
		panic(err)
	}
	event, err := events.Next()
	if err != nil {
		panic(err)
	}
	fmt.Println(opening.Type)
	fmt.Println(event.Type, string(event.Data))
	// Output:
	// evstream.open
	// score {"home":2}
}
