// Package h3stream takes streams of HTTP/3 from the server of quic-go, for
// stream.Session.DetachStream: the handler returns, and the stream goes on. It uses
// http3.HTTPStreamer, which quic-go has for that.
package h3stream

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
	"github.com/quic-go/quic-go/quicvarint"

	"github.com/evstream/caddy-evstream/stream"
)

// Take is a stream.Taker for responses of quic-go's server.
func Take(w http.ResponseWriter) (take func() (stream.Taken, error)) {
	server, ok := w.(http3.HTTPStreamer)
	if !ok {
		return nil
	}
	return func() (stream.Taken, error) {
		h := server.HTTPStream() // sends what the server has buffered
		if err := context.Cause(h.Context()); err != nil {
			h.CancelWrite(quic.StreamErrorCode(http3.ErrCodeRequestCanceled))
			h.CancelRead(quic.StreamErrorCode(http3.ErrCodeNoError))
			return nil, err
		}
		// The end of the request is read, which has come with its header by the rule. Nobody
		// reads more: only a client that goes on sending is told.
		_ = h.SetReadDeadline(time.Now().Add(endPatience))
		_, _ = h.Read(make([]byte, 1))
		h.CancelRead(quic.StreamErrorCode(http3.ErrCodeNoError))
		s := &taken{h.QUICStream()} // without h, which holds the request
		_ = s.quic.SetWriteDeadline(time.Time{})
		return s, nil
	}
}

// endPatience is how long the end of the request is waited for.
const endPatience = time.Millisecond

// taken is a stream of QUIC that was one of HTTP/3.
type taken struct{ quic *quic.Stream }

// dataFrame is the type of a frame with a part of the body (RFC 9114, section 7.2.1).
const dataFrame = 0

// AppendHead implements stream.Taken.
func (*taken) AppendHead(dst []byte, n int) []byte {
	return quicvarint.Append(quicvarint.Append(dst, dataFrame), uint64(n))
}

// TryWrite implements stream.Taken.
func (t *taken) TryWrite(p []byte) (bool, error) {
	err := t.quic.TryWriteAll(p)
	if errors.Is(err, quic.ErrWouldBlock) {
		return false, nil
	}
	return err == nil, err
}

// Write implements stream.Taken. A handler in front may have set a deadline when it ended.
func (t *taken) Write(p []byte) (int, error) {
	_ = t.quic.SetWriteDeadline(time.Time{})
	return t.quic.Write(p)
}

// End implements stream.Taken. A reset has the code with which the server resets the stream
// of a handler that has failed.
func (t *taken) End(good bool) {
	if good {
		_ = t.quic.Close()
		return
	}
	t.quic.CancelWrite(quic.StreamErrorCode(http3.ErrCodeInternalError))
}

// Context implements stream.Taken.
func (t *taken) Context() context.Context { return t.quic.Context() }
