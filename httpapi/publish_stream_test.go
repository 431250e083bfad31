package httpapi

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/evstream/caddy-evstream/problem"
)

func TestWhatAClientSentBeforeItLeftStaysPublished(t *testing.T) {
	e := newTestHandler(t)
	r := asBackend("POST", "/live/a", "", "Content-Type: application/x-ndjson").build()
	r.ContentLength = -1
	r.Body = io.NopCloser(io.MultiReader(strings.NewReader("1\n2\nhal"), iotest.ErrReader(io.ErrUnexpectedEOF)))
	gone, leave := context.WithCancel(r.Context())
	leave()
	resp := serve(t, e, r.WithContext(gone))
	if doc := wantProblem(t, resp, 400, "bad-body"); *doc.Published != 2 || doc.Line != 3 {
		t.Errorf("got %+v", doc)
	}
	if got := kept(t, e, "a"); !slices.Equal(got, []string{":1", ":2"}) {
		t.Errorf("kept %q", got)
	}
}

func TestALineReaderHoldsNoMoreThanItsLimit(t *testing.T) {
	l := newLineReader(iotest.OneByteReader(strings.NewReader(strings.Repeat("x", 100)+"\n")), 50)
	if _, err := l.next(); err == nil || problem.Of(err).Kind != problem.TooLarge {
		t.Errorf("got %v", err)
	}
	l = newLineReader(strings.NewReader(strings.Repeat("x", 50)+"\r\ny"), 50)
	if line, err := l.next(); err != nil || len(line) != 50 {
		t.Errorf("got %q, %v", line, err)
	}
	if line, err := l.next(); !errors.Is(err, io.EOF) || string(line) != "y" {
		t.Errorf("got %q, %v", line, err)
	}
}
