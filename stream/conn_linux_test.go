package stream

import (
	"net/http/httptest"
	"testing"
	"time"
)

func TestStreamsOfAPlainServerAreDetached(t *testing.T) {
	before := openFiles(t)
	site := newPlainSite(t, (*httptest.Server).Start)
	site.checkLife(true)
	site.stop()
	until := time.Now().Add(patience)
	for n := openFiles(t); n != before; n = openFiles(t) {
		if time.Now().After(until) {
			t.Fatalf("%d file descriptors are open, %d were before", n, before)
		}
	}
}

// A stream that goes on when its server is closed is ended by the close, and
// nothing is left of it.
func TestTheStreamsOfAPlainServerEndWhenItCloses(t *testing.T) {
	site := newPlainSite(t, (*httptest.Server).Start)
	s, d, body := site.subscribe("")
	defer body.Close()
	if !s.detached {
		t.Error("the stream is not detached")
	}
	site.stop()
	site.ended(s, ReasonClosed)
	if e, err := d.Next(); err == nil {
		t.Errorf("read %+v", e)
	}
}
