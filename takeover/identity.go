package takeover

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net/http"
	"strings"

	"github.com/evstream/caddy-evstream/hub"
	"github.com/evstream/caddy-evstream/internal/jsonvalue"
)

// asked is what a request asks for.
type asked struct {
	digest string // equal for a request that is repeated
	anew   bool   // an answer that is kept will not do
}

// Body reads the body of a request, within MaxBody and the bounds of bodies. The request
// has it still, in memory until it is read or closed, which the caller has to do. The error
// is a problem.
func (rec *Recorder) Body(r *http.Request) ([]byte, error) {
	if held, ok := r.Body.(*heldBody); ok {
		return held.bytes(), nil
	}
	if r.Body == nil || r.Body == http.NoBody {
		return nil, nil
	}
	held, err := rec.bodies.hold(r.Body, hub.ShareOf(rec.who(r), rec.streams.Host().ClientIP(r)), rec.config.MaxBody)
	if err != nil {
		return nil, err
	}
	r.Body = held
	return held.bytes(), nil
}

// read reads the body of a request, and returns the request with it for the application:
// it goes on when the client has left.
func (rec *Recorder) read(r *http.Request) (*asked, *http.Request, error) {
	body, err := rec.Body(r)
	if err != nil {
		return nil, nil, err
	}
	a := &asked{anew: strings.Contains(strings.ToLower(r.Header.Get("Cache-Control")), "no-cache")}
	switch key, run := r.Header.Get("Idempotency-Key"), r.Header.Get("X-Run-Id"); {
	case key != "":
		a.digest = digest("key " + key)
	case run != "":
		a.digest = digest("run " + run)
	default:
		sum := sha256.New()
		_, _ = io.WriteString(sum, r.Method+" "+r.URL.RequestURI()+"\n")
		_, _ = sum.Write(body)
		a.digest = hex.EncodeToString(sum.Sum(nil))
	}
	again := r.Clone(r.Context())
	again.ContentLength, again.TransferEncoding = int64(len(body)), nil
	if len(body) == 0 {
		again.Body = http.NoBody
	}
	return a, again, nil
}

// outliving returns the request with a context that the leaving of its client does not end.
func outliving(r *http.Request) (*http.Request, context.CancelFunc) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(r.Context()))
	return r.WithContext(ctx), cancel
}

func digest(s string) string {
	if s == "" {
		return ""
	}
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:16])
}

func quote(s string) string { return string(jsonvalue.Quote(s)) }
