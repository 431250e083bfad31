package evstream

import (
	"encoding/json"
	"errors"
	"io"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"golang.org/x/sys/unix"
)

// tracedSpan is a span as the exporter "console" prints it.
type tracedSpan struct {
	Name                string
	SpanContext, Parent struct{ TraceID, SpanID string }
	Attributes          []struct {
		Key   string
		Value struct{ Value any }
	}
	Status struct{ Code string }
}

// redirect has what the process writes to its standard output in a file, until restore is
// called: the exporter took it when the program began.
func redirect(t *testing.T, to *os.File) (restore func()) {
	t.Helper()
	stdout, err := unix.Dup(1)
	if err == nil {
		err = unix.Dup3(int(to.Fd()), 1, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	return sync.OnceFunc(func() {
		if err := errors.Join(unix.Dup3(stdout, 1, 0), unix.Close(stdout)); err != nil {
			t.Error(err)
		}
	})
}

// exportSpans has spans exported. Called once, spans stops Caddy and returns those that there were.
func exportSpans(t *testing.T) (spans func() []tracedSpan) {
	t.Helper()
	t.Setenv("OTEL_TRACES_EXPORTER", "console")
	file, err := os.Create(filepath.Join(t.TempDir(), "spans"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = file.Close() })
	restore := redirect(t, file)
	t.Cleanup(restore)
	return func() (all []tracedSpan) {
		t.Helper()
		if err := caddy.Stop(); err != nil { // which exports all
			t.Fatal(err)
		}
		restore()
		if _, err := file.Seek(0, io.SeekStart); err != nil {
			t.Fatal(err)
		}
		for d := json.NewDecoder(file); ; {
			var span tracedSpan
			if err := d.Decode(&span); errors.Is(err, io.EOF) {
				return all
			} else if err != nil {
				t.Fatal(err)
			}
			all = append(all, span)
		}
	}
}

// TestARequestThatPublishesHasOneSpan looks at what Caddy's tracing exports.
func TestARequestThatPublishesHasOneSpan(t *testing.T) {
	spans := exportSpans(t)
	address := freeAddress(t)
	url := "http://" + address + "/live/"
	load(t, options("")+"http://"+address+" {\n\ttracing {\n\t\tspan request\n\t}\n\tevstream /live/* {\n\t\tallow anyone subscribe,publish,state **\n\t}\n}\n")

	s := subscribe(t, url+"a")
	ask := func(status int, method, path, body string, more ...string) {
		t.Helper()
		kind := "text/plain"
		if len(more) > 0 {
			kind = more[0]
		}
		if got, answer := send(t, method, url+path, body, header("Content-Type", kind)); got != status {
			t.Errorf("%s %s is answered %d %s", method, path, got, answer)
		}
	}
	ask(200, "POST", "a", "one")
	s.expect("one")
	ask(200, "POST", "a", strings.Repeat("1\n", 500), "application/x-ndjson")
	ask(200, "POST", "_publish", `{"channels":["b","c"],"data":"x"}`, "application/json")
	ask(201, "PUT", "v", "1", "application/json")
	ask(200, "PATCH", "v?incr=1", "")
	ask(409, "PATCH", "v", `[{"op":"test","path":"","value":7}]`, "application/json-patch+json")
	ask(400, "POST", "a?event=evstream.x", "never published")
	s.cancel()
	requests := make(map[string]int) // by the id of the span: how many there are beneath
	var published []map[string]any
	var parents []string
	for _, span := range spans() {
		switch span.Name {
		case "request":
			requests[span.SpanContext.TraceID+span.SpanContext.SpanID] = 0
		case "evstream publish":
			attributes := map[string]any{"status": span.Status.Code}
			for _, a := range span.Attributes {
				attributes[strings.TrimPrefix(a.Key, "evstream.")] = a.Value.Value
			}
			if id, _ := attributes["id"].(string); (id != "") != (attributes["refused"] == 0.0) {
				t.Errorf("a span has the id %q: %v", id, attributes)
			}
			delete(attributes, "id")
			published = append(published, attributes)
			parents = append(parents, span.Parent.TraceID+span.Parent.SpanID)
		default:
			t.Errorf("there is a span %q", span.Name)
		}
	}
	for _, parent := range parents {
		if _, ok := requests[parent]; !ok {
			t.Error("a span is not beneath that of its request")
		}
		requests[parent]++
	}
	if len(requests) != 8 {
		t.Errorf("there are %d requests", len(requests))
	}
	for _, n := range requests {
		if n > 1 {
			t.Errorf("a request has %d spans", n)
		}
	}
	span := func(ops, refused, channels float64, result string) map[string]any {
		return map[string]any{"broker": "default", "operations": ops, "refused": refused, "channels": channels, "result": result, "status": "Unset"}
	}
	want := []map[string]any{
		span(1, 0, 1, "stored"), span(500, 0, 1, "stored"), span(2, 0, 2, "stored"),
		span(1, 0, 1, "stored"), span(1, 0, 1, "stored"), span(1, 1, 1, "conflict"),
	}
	if len(published) != len(want) {
		t.Fatalf("there are %d spans: %v", len(published), published)
	}
	for i := range want {
		if !maps.Equal(published[i], want[i]) {
			t.Errorf("span %d has %v, want %v", i+1, published[i], want[i])
		}
	}
}
