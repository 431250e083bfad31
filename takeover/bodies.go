package takeover

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"sync"

	"github.com/evstream/caddy-evstream/internal/errkind"
	"github.com/evstream/caddy-evstream/problem"
)

// Bounds of the bodies of requests that are held in memory, in bytes: of all, and of one
// caller.
const (
	maxBodies   = 256 << 20
	maxBodiesOf = 32 << 20
	bodyPiece   = 64 << 10 // is counted before it is read
	bodyCost    = 1 << 10  // of a body, besides its text
)

var (
	errBodies   = errkind.New("overloaded", "", "too many requests whose answers are recorded send their bodies")
	errBodiesOf = errkind.New("share", "share", "your share of the bodies of requests whose answers are recorded is used up")
)

// bodies counts the bodies that are held.
type bodies struct {
	most, mostOf int // bytes of all, and of one caller

	mu    sync.Mutex // guards what follows
	all   int
	byOne map[string]int // by the share of a caller
}

// take counts n bytes of a caller.
func (b *bodies) take(share string, n int) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.all+n > b.most:
		return errBodies
	case share != "" && b.byOne[share]+n > b.mostOf:
		return errBodiesOf
	}
	b.all += n
	if share != "" {
		if b.byOne == nil {
			b.byOne = make(map[string]int)
		}
		b.byOne[share] += n
	}
	return nil
}

// give undoes take.
func (b *bodies) give(share string, n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.all -= n
	if share == "" {
		return
	}
	if b.byOne[share] -= n; b.byOne[share] <= 0 {
		delete(b.byOne, share)
	}
}

// heldBody is the body of a request, which was read. It is safe for concurrent use, and
// counted until it is read again or closed.
type heldBody struct {
	of      *bodies
	share   string
	counted int

	mu   sync.Mutex // guards what follows
	data []byte
	read int
}

// hold reads a body of at most limit bytes. The error is a problem.
func (b *bodies) hold(body io.Reader, share string, limit int) (*heldBody, error) {
	held := &heldBody{of: b, share: share}
	var text bytes.Buffer
	for {
		if err := b.take(share, bodyPiece); err != nil {
			held.Close()
			return nil, err
		}
		held.counted += bodyPiece
		n, err := io.CopyN(&text, body, bodyPiece)
		var tooLarge *http.MaxBytesError
		switch {
		case errors.Is(err, io.EOF) && text.Len() <= limit:
			held.data = text.Bytes()
			if kept := len(held.data) + bodyCost; kept < held.counted {
				b.give(share, held.counted-kept)
				held.counted = kept
			}
			return held, nil
		case text.Len() > limit:
			err = problem.TooLarge.Because("the body has more than %d bytes, which is what is allowed where the answer is recorded", limit)
		case errors.As(err, &tooLarge):
			err = problem.TooLarge.Because("the body has more than %d bytes, which is what is allowed", tooLarge.Limit)
		case err != nil:
			err = problem.BadBody.Because("the body did not come to its end")
		case n == bodyPiece:
			continue
		}
		held.Close()
		return nil, err
	}
}

// bytes are what the body has, until it is read or closed.
func (h *heldBody) bytes() []byte {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.data
}

// Read implements io.Reader. What was read to its end is not held any more.
func (h *heldBody) Read(p []byte) (int, error) {
	h.mu.Lock()
	n := copy(p, h.data[h.read:])
	h.read += n
	done := h.read == len(h.data)
	h.mu.Unlock()
	if done {
		h.Close()
	}
	if n == 0 {
		return 0, io.EOF
	}
	return n, nil
}

// Close implements io.Closer. It may be called more than once.
func (h *heldBody) Close() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.of.give(h.share, h.counted)
	h.data, h.read, h.counted = nil, 0, 0
	return nil
}
