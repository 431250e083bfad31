package httpapi

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/httpapi/internal/bodies"
	"github.com/evstream/caddy-evstream/hub"
	"github.com/evstream/caddy-evstream/sse"
)

func TestBodiesWithoutALengthAreBounded(t *testing.T) {
	for _, tt := range []struct {
		name   string
		body   io.Reader
		status int
		kind   string
	}{
		{"within", strings.NewReader(strings.Repeat("x", 4096)), 200, ""},
		{"above", strings.NewReader(strings.Repeat("x", 4097)), 413, "too-large"},
		{"above, where the site allows no more either", http.MaxBytesReader(nil, io.NopCloser(strings.NewReader(strings.Repeat("x", 4097))), 4096), 413, "too-large"},
		{"cut where no more is allowed", io.MultiReader(strings.NewReader(strings.Repeat("x", 4096)), iotest.ErrReader(io.ErrUnexpectedEOF)), 400, "bad-body"},
		{"late where no more is allowed", io.MultiReader(strings.NewReader(strings.Repeat("x", 4096)), iotest.ErrReader(os.ErrDeadlineExceeded)), 408, "timeout"},
		{"cut", io.MultiReader(strings.NewReader("x"), iotest.ErrReader(io.ErrUnexpectedEOF)), 400, "bad-body"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := newTestHandler(t, func(c *testConfig) { c.MaxBody = 4096 })
			r := asBackend("POST", "/live/a", "").build()
			r.Body, r.ContentLength = io.NopCloser(tt.body), -1
			resp := serve(t, e, r)
			if tt.status != 200 {
				wantProblem(t, resp, tt.status, tt.kind)
				if got := kept(t, e, "a"); len(got) > 0 {
					t.Errorf("kept %d", len(got))
				}
				return
			}
			if got := kept(t, e, "a"); resp.StatusCode != 200 || len(got) != 1 || len(got[0]) != 4097 {
				t.Errorf("%d, kept %d", resp.StatusCode, len(got))
			}
		})
	}
}

func TestALargeContentLengthTakesNoMemoryBeforeItsBytesArrive(t *testing.T) {
	r := asBackend("POST", "/live/a", "").build()
	r.ContentLength = 1 << 29
	allocated := testing.AllocsPerRun(1, func() {
		r.Body = io.NopCloser(iotest.ErrReader(io.ErrUnexpectedEOF))
		if _, err := bodies.Read(r, broker.Unlimited); err == nil {
			t.Error("no error")
		}
	})
	if allocated > 20 {
		t.Errorf("%v allocations", allocated)
	}
}

func TestErrorsOfTheFloorsBelowHaveTheirStatus(t *testing.T) {
	e := newTestHandler(t)
	for _, tt := range []struct {
		err    error
		status int
		kind   string
	}{
		{broker.ErrUncertain, 503, "uncertain"},
		{broker.ErrFull, 507, "log-full"},
		{broker.ErrTooManyKeys, 503, "overloaded"},
		{broker.ErrTooManyPatterns, 503, "overloaded"},
		{broker.ErrTooManyChannels, 503, "overloaded"},
		{broker.ErrClosed, 503, "unavailable"},
		{context.Canceled, 503, "unavailable"},
		{broker.ErrKeyReused, 422, "key-reused"},
		{hub.ErrTooManyFromAddress, 429, "too-many-connections"},
		{sse.ErrRetry, 400, "bad-event"},
		{broker.ErrNoChannels, 400, "bad-parameter"},
	} {
		w := httptest.NewRecorder()
		if err := e.fail(w, &broker.OpError{Index: 3, Err: fmt.Errorf("beneath: %w", tt.err)}); err != nil {
			t.Fatal(err)
		}
		doc := wantProblem(t, w.Result(), tt.status, tt.kind)
		if (doc.Outcome == "unknown") != (tt.kind == "uncertain") {
			t.Errorf("%v: outcome %q", tt.err, doc.Outcome)
		}
		if retry := w.Header().Get("Retry-After"); (retry == "2") != (tt.status == 503 || tt.status == 429) {
			t.Errorf("%v: Retry-After %q", tt.err, retry)
		}
		if !strings.Contains(doc.Detail, tt.err.Error()) {
			t.Errorf("%v: detail %q", tt.err, doc.Detail)
		}
	}
}

func BenchmarkPublish(b *testing.B) {
	e := newTestHandler(b)
	r := asBackend("POST", "/live/match.7?event=score", "").build()
	body := strings.NewReader("")
	r.Body = io.NopCloser(body)
	const data = `{"home":2,"away":1}`
	r.ContentLength = int64(len(data))
	w := httptest.NewRecorder()
	b.ReportAllocs()
	for b.Loop() {
		body.Reset(data)
		w.Body.Reset()
		if _, err := e.Serve(w, r); err != nil {
			b.Fatal(err)
		}
	}
	if w.Code != 200 {
		b.Fatal(w.Body)
	}
}
