package stream

import (
	"testing"

	"github.com/evstream/caddy-evstream/internal/mutation"
)

// The same for what writes to a TLS connection: the model on sockets, or another test of
// them, must fail.
func TestTheModelSeesABrokenTLSConnection(t *testing.T) {
	const model = "^TestClientsOnSocketsThatStallAndResumeMissNothing$/^tls$"
	for name, mutant := range map[string]struct{ test, file, old, new string }{
		"a full socket is broken":       {model, "tlsconn_linux.go", "if errors.Is(err, parked.ErrFull) {", "if false {"},
		"room is not told":              {model, "tlsconn_linux.go", "{ w.onWritable() }", "{}"},
		"room of the socket is nothing": {model, "tlsconn_linux.go", "{ c.conn.Writable() }", "{}"},
		"the end of TLS is nothing":     {"^TestAHangUpIsSeenThoughNothingIsWritten$/^tls$/^close_notify$", "tlsconn_linux.go", "{ w.onHangup() }", "{}"},
		"the end of TCP is nothing":     {model, "tlsconn_linux.go", "{ c.watcher.onHangup() }", "{}"},
		"it is not closed":              {model, "tlsconn_linux.go", "c.conn.Close(hard)", "_ = hard"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			mutation.Kills(t, mutant.test, mutant.file, mutant.old, mutant.new)
		})
	}
}
