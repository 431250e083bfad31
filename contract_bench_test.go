package evstream

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
)

// BenchmarkPublishThroughAServer publishes over one connection that stays open.
// "routing" is what it is compared with: a POST of the same size that the server
// answers by itself. It includes the client, which is a few reads and writes.
func BenchmarkPublishThroughAServer(b *testing.B) {
	for _, on := range servers {
		b.Run(on.name, func(b *testing.B) { benchmarkPublish(b, on) })
	}
}

func benchmarkPublish(b *testing.B, on server) {
	address := on.start(b, withRules("anyone all **")).address
	event := strings.Repeat("x", 100)
	lines := strings.Repeat(event+"\n", 100)
	array := "[" + strings.TrimSuffix(strings.Repeat(fmt.Sprintf(`{"channel":"a","data":%q},`, event), 100), ",") + "]"

	b.Run("routing", func(b *testing.B) { postAll(b, address, 1, repeat(plainPath, "text/plain", event)) })
	b.Run("nobody", func(b *testing.B) { postAll(b, address, 1, repeat("/live/nobody", "text/plain", event)) })
	b.Run("one reader", func(b *testing.B) {
		readAll(b, address, "a")
		postAll(b, address, 1, repeat("/live/a", "text/plain", event))
	})
	b.Run("channels=2000, a reader each", func(b *testing.B) {
		const channels = 2000
		for i := range channels {
			readAll(b, address, fmt.Sprintf("many/%d", i))
		}
		i := 0
		postAll(b, address, 1, func() (string, string, string) {
			i = (i + 1) % channels
			return fmt.Sprintf("/live/many/%d", i), "text/plain", event
		})
	})
	b.Run("NDJSON of 100", func(b *testing.B) { postAll(b, address, 100, repeat("/live/n", "application/x-ndjson", lines)) })
	b.Run("array of 100", func(b *testing.B) { postAll(b, address, 100, repeat("/live/_publish", "application/json", array)) })
}

func repeat(path, media, body string) func() (string, string, string) {
	return func() (string, string, string) { return path, media, body }
}

// readAll subscribes, and reads whatever comes until the benchmark ends.
func readAll(b *testing.B, address, channel string) {
	b.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = conn.Close() })
	fmt.Fprintf(conn, "GET /live/%s HTTP/1.1\r\nHost: %s\r\nAccept: text/event-stream\r\n\r\n", channel, address)
	r := bufio.NewReaderSize(conn, 16)
	if status, err := r.ReadString(' '); err != nil {
		b.Fatal(status, err)
	}
	go func() { _, _ = io.Copy(io.Discard, r) }() // until the connection is closed
}

// postAll posts as long as the benchmark runs. next says where to and what;
// each body has so many events.
func postAll(b *testing.B, address string, events int, next func() (path, media, body string)) {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close()
	answers := bufio.NewReader(conn)
	var request bytes.Buffer
	b.ReportAllocs()
	for b.Loop() {
		path, media, body := next()
		request.Reset()
		fmt.Fprintf(&request, "POST %s HTTP/1.1\r\nHost: %s\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n%s", path, address, media, len(body), body)
		if _, err := conn.Write(request.Bytes()); err != nil {
			b.Fatal(err)
		}
		answer, err := http.ReadResponse(answers, nil)
		if err != nil || answer.StatusCode != http.StatusOK {
			b.Fatal(answer, err)
		}
		if _, err := io.Copy(io.Discard, answer.Body); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(events), "ns/event")
}
