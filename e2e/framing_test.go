package e2e

import (
	"errors"
	"io"
	"testing"
)

// A client that is told nothing by the framing takes a crash for a proper end, and
// one that comes back only after an error is dead from then on.
func TestACrashIsNoProperEnd(t *testing.T) {
	t.Parallel()
	s := start(t, leaving(1, "100ms", ""))
	protos := []protocol{plainH1, attachedH1, tlsH1, tlsH2}
	streams := make([]*reader, len(protos))
	for i, proto := range protos {
		streams[i] = open(t, proto.client(t), proto.url(s, "/live/a"))
	}
	s.kill()
	s.err = nil // it is to fail
	for i, proto := range protos {
		if _, err := io.Copy(io.Discard, streams[i].response.Body); err == nil || errors.Is(err, io.EOF) {
			t.Errorf("%s: after a crash the body ends with %v", proto, err)
		}
	}
}
