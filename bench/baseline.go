package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/evstream/caddy-evstream/bench/internal/credentials"
)

// baselineName is the target by whose figures the others are divided.
const baselineName = "net/http"

const (
	// path is that of the channel that is measured.
	path = "/live/bench"
	// smallPath is that of a channel beside it, with one reader.
	smallPath = path + "-small"

	// The default history of evstream.
	historyEvents = 1000

	// How many events the baseline queues for a slow subscriber.
	queueEvents = 256

	// The second number of an id, so that ids are as long as those of evstream.
	firstID = 1_000_000
)

// broadcaster is the baseline: an event stream as one writes it with net/http
// alone. Each connection has a goroutine and a Go chan; each event is encoded once,
// written to each connection and flushed. A subscriber whose chan is full is
// disconnected.
type broadcaster struct {
	begun int64 // in ids

	mu          sync.Mutex
	subscribers map[chan []byte]context.CancelFunc
	history     [][]byte // never changed, but appended to; the last is published
	published   int
}

func newBroadcaster() http.Handler {
	b := broadcasting()
	return b.routes(b.publish)
}

func broadcasting() *broadcaster {
	return &broadcaster{begun: time.Now().UnixMilli(), subscribers: make(map[chan []byte]context.CancelFunc)}
}

// routes subscribes, and has events published.
func (b *broadcaster) routes(publish http.HandlerFunc) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+path, b.subscribe)
	mux.HandleFunc("POST "+path, publish)
	small := broadcasting() // another channel
	mux.HandleFunc("GET "+smallPath, small.subscribe)
	mux.HandleFunc("POST "+smallPath, small.publish)
	return mux
}

func (b *broadcaster) publish(w http.ResponseWriter, r *http.Request) {
	data, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 1<<20))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	fmt.Fprintf(w, `{"id":"%s"}`, b.send(data))
}

// send sends an event to every subscriber, and returns its id.
func (b *broadcaster) send(data []byte) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	id := fmt.Sprintf("%d-%d", b.begun, firstID+b.published)
	event := fmt.Appendf(nil, "id: %s\ndata: %s\n\n", id, data)
	b.published++
	if len(b.history) == 2*historyEvents { // readers may still use the old one
		b.history = append(make([][]byte, 0, 2*historyEvents), b.history[historyEvents:]...)
	}
	b.history = append(b.history, event)
	for queue, cancel := range b.subscribers {
		select {
		case queue <- event:
		default:
			delete(b.subscribers, queue)
			cancel()
		}
	}
	return id
}

func (b *broadcaster) subscribe(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	queue := make(chan []byte, queueEvents)
	missed := b.join(queue, cancel, r.Header.Get("Last-Event-ID"))
	defer b.leave(queue)

	control := http.NewResponseController(w)
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-cache, no-store, no-transform")
	if _, err := io.WriteString(w, ": bench\n\n"); err != nil {
		return
	}
	for _, event := range missed {
		if _, err := w.Write(event); err != nil {
			return
		}
	}
	for control.Flush() == nil {
		select {
		case event := <-queue:
			if _, err := w.Write(event); err != nil {
				return
			}
		case <-ctx.Done():
			return
		}
	}
}

// join adds a subscriber, and returns the part of the history that it has missed.
func (b *broadcaster) join(queue chan []byte, cancel context.CancelFunc, lastEventID string) [][]byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.subscribers[queue] = cancel
	_, number, ok := strings.Cut(lastEventID, "-")
	last, err := strconv.Atoi(number)
	if !ok || err != nil {
		return nil
	}
	missed := min(b.published-(last-firstID+1), len(b.history), historyEvents)
	return b.history[len(b.history)-max(missed, 0):]
}

func (b *broadcaster) leave(queue chan []byte) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.subscribers, queue)
}

// serve serves a handler at two addresses, the second over TLS, until ctx ends.
func serve(ctx context.Context, handler http.Handler, plain, secure net.Listener, c *credentials.Credentials) error {
	server := &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: time.Minute, // as Caddy has them
		IdleTimeout:       5 * time.Minute,
		// A subscriber that leaves in the middle of a handshake is no error.
		ErrorLog: log.New(io.Discard, "", 0),
	}
	failed := make(chan error, 2)
	go func() { failed <- server.Serve(plain) }()
	go func() { failed <- server.ServeTLS(secure, c.CertFile, c.KeyFile) }()
	var err error
	select {
	case err = <-failed:
	case <-ctx.Done():
	}
	return errors.Join(err, server.Close())
}
