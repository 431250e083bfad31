package bodies

import (
	"errors"
	"io"
	"net/http"
	"time"

	"github.com/evstream/caddy-evstream/problem"
)

// Bounds of bodies that are ignored or abandoned.
const (
	maxIgnored    = 64 << 10
	ignoredTime   = 5 * time.Second
	abandonedTime = time.Second
)

// Ignore reads and discards the body of a request that should have none. While a
// body is unread, a server of HTTP/1 neither begins to answer nor notices that the
// client has left.
func Ignore(w http.ResponseWriter, r *http.Request) error {
	return Discard(w, r, maxIgnored)
}

// Discard is Ignore for a body, or what is left of one, of at most limit bytes.
func Discard(w http.ResponseWriter, r *http.Request, limit int64) error {
	if r.ContentLength == 0 || r.Body == nil || r.Body == http.NoBody {
		return nil
	}
	ctrl := http.NewResponseController(w)
	_ = ctrl.SetReadDeadline(time.Now().Add(ignoredTime))
	n, err := io.Copy(io.Discard, io.LimitReader(r.Body, limit+1))
	if errors.Is(err, http.ErrBodyReadAfterClose) {
		return nil // a proxy has, and the server reads the rest
	}
	if err != nil || n > limit {
		Abandon(w, r)
		return problem.BadBody.Because("the answer begins after the body of the request, and that has more than %d bytes, or did not end within %s", limit, ignoredTime)
	}
	return nil
}

// Abandon allows to answer before the body has ended: a server of HTTP/1 would read
// the body first. The connection is closed after the answer.
func Abandon(w http.ResponseWriter, r *http.Request) {
	ctrl := http.NewResponseController(w)
	if r.ProtoMajor == 1 {
		_ = ctrl.EnableFullDuplex()
		w.Header().Set("Connection", "close")
	}
	_ = ctrl.SetReadDeadline(time.Now().Add(abandonedTime))
}
