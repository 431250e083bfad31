package evstream

import (
	"slices"
	"testing"
)

// TestEachWayToPublishHasOneSpan makes a request of each way to publish, of which each has
// one span with all its operations, and requests that publish nothing, which have none.
func TestEachWayToPublishHasOneSpan(t *testing.T) {
	spans := exportSpans(t)
	address := freeAddress(t)
	url := "http://" + address + "/live/"
	load(t, options("")+"http://"+address+" {\n\ttracing {\n\t\tspan request\n\t}\n\tevstream /live/* {\n\t\tallow anyone subscribe,publish,state,purge **\n\t}\n}\n")

	const jsonBody, lines = "application/json", "application/x-ndjson"
	ways := []struct {
		name, method, path, kind, body string
		operations                     []float64 // of its spans
	}{
		{"an event", "POST", "a", "text/plain", "one", []float64{1}},
		{"lines", "POST", "a", lines, "1\n2\n3\n", []float64{3}},
		{"a stream", "POST", "a", "text/event-stream", "data: 1\n\nevent: x\ndata: 2\n\n", []float64{2}},
		{"nothing of a stream", "POST", "a", "text/event-stream", ": nothing\n\n", nil},
		{"an array", "POST", "_publish", jsonBody, `[{"channel":"a","data":1},{"channels":["b","c"],"data":2}]`, []float64{3}},
		{"lines of many channels", "POST", "_publish", lines, "{\"channel\":\"a\",\"data\":1}\n{\"channel\":\"b\",\"data\":2}\n", []float64{2}},
		{"a value among them", "POST", "_publish", jsonBody, `{"channel":"v","state":{"n":1}}`, []float64{1}},
		{"all beneath", "POST", "a/", "text/plain", "x", []float64{1}},
		{"a value", "PUT", "v", jsonBody, `{"n":2}`, []float64{1}},
		{"a merge patch", "PATCH", "v", "application/merge-patch+json", `{"n":3}`, []float64{1}},
		{"a JSON patch", "PATCH", "v", "application/json-patch+json", `[{"op":"replace","path":"/n","value":4}]`, []float64{1}},
		{"an addition", "PATCH", "n?incr=1", "", "", []float64{1}},
		{"the end of a value", "DELETE", "v", "", "", []float64{1}},
		{"the end of a channel", "POST", "b?close", "text/plain", "last", []float64{1}},
		{"after the end", "POST", "b", "text/plain", "too late", []float64{1}},
		{"a purge", "DELETE", "a?history", "", "", []float64{1}},
		{"a description", "GET", "a?info", "", "", nil},
		{"what is not understood", "POST", "_publish", jsonBody, `{`, nil},
	}
	for _, w := range ways {
		if status, answer := send(t, w.method, url+w.path, w.body, header("Content-Type", w.kind)); status >= 500 {
			t.Errorf("%s is answered %d %s", w.name, status, answer)
		}
	}
	var requests []string
	operations := make(map[string][]float64) // by the id of the request's span
	for _, span := range spans() {
		if span.Name == "request" {
			requests = append(requests, span.SpanContext.SpanID)
			continue
		}
		for _, a := range span.Attributes {
			if n, ok := a.Value.Value.(float64); ok && a.Key == "evstream.operations" {
				operations[span.Parent.SpanID] = append(operations[span.Parent.SpanID], n)
			}
		}
	}
	if len(requests) != len(ways) {
		t.Fatalf("there are %d requests, want %d", len(requests), len(ways))
	}
	for i, w := range ways {
		if got := operations[requests[i]]; !slices.Equal(got, w.operations) {
			t.Errorf("%s has spans of %v operations, want %v", w.name, got, w.operations)
		}
	}
}
