package client

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"testing"

	"github.com/evstream/caddy-evstream/sse"
)

// endless is a stream whose events come as fast as they are read.
type endless struct {
	block []byte
	rest  []byte
}

func (e *endless) Read(p []byte) (int, error) {
	if len(e.rest) == 0 {
		e.rest = e.block
	}
	n := copy(p, e.rest)
	e.rest = e.rest[n:]
	return n, nil
}

func (*endless) Close() error { return nil }

// RoundTrip implements http.RoundTripper.
func (e *endless) RoundTrip(r *http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {"text/event-stream"}}, Body: e, Request: r}, nil
}

// BenchmarkNext is what an event of 100 bytes costs a reader; "decoder" is the part of
// the wire format, and "subscription" all of it.
func BenchmarkNext(b *testing.B) {
	var block bytes.Buffer
	for i := range 100 {
		block.WriteString(event(fmt.Sprintf("1763687000123-%d", i), string(bytes.Repeat([]byte("x"), 100))))
	}
	b.Run("decoder", func(b *testing.B) {
		b.ReportAllocs()
		d := sse.NewDecoder(&endless{block: block.Bytes()}, 1<<20)
		for b.Loop() {
			if _, err := d.Next(); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("subscription", func(b *testing.B) {
		b.ReportAllocs()
		c, err := New("http://hub.example/live", Options{HTTP: &http.Client{Transport: &endless{block: block.Bytes()}}})
		if err != nil {
			b.Fatal(err)
		}
		s := c.Subscribe(b.Context(), SubscribeOptions{Channels: []string{"a"}})
		for b.Loop() {
			if _, err := s.Next(); err != nil {
				b.Fatal(err)
			}
		}
		s.Close()
		if _, err := s.Next(); err == io.EOF {
			b.Fatal(err)
		}
	})
}
