package evstream

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
)

// A recorded answer has one span, beneath that of its request, and so has what is published
// over GRIP in a site.
func TestARecordedAnswerHasOneSpan(t *testing.T) {
	spans := exportSpans(t)
	m := newModel(t)
	address := freeAddress(t)
	site := strings.Replace(recordSite(address, m.URL, ""), " {\n\troute", " {\n\ttracing {\n\t\tspan request\n\t}\n\troute", 1)
	load(t, strings.Replace(site, "\tevstream /live/*", "\troute /app/* {\n\t\tevstream {\n\t\t\thandoff grip {\n\t\t\t\tkey a-key-of-the-test\n\t\t\t\tpublish /app\n\t\t\t}\n\t\t}\n\t\trespond ok\n\t}\n\tevstream /live/*", 1))
	first := begun(t, m, "http://"+address+"/api/chat/7", "{}")
	m.tokens <- "two"
	reads(t, first.Body, "data: two\n\n")
	m.tokens <- "three"
	close(m.tokens)
	if _, err := io.ReadAll(first.Body); err != nil {
		t.Fatal(err)
	}
	if status, body := send(t, http.MethodPost, "http://"+address+"/app/publish/", `{"items":[{"channel":"a","http-stream":{"content":"data: x\n\ndata: y\n\n"}}]}`, header("Authorization", "Bearer a-key-of-the-test")); status != 200 {
		t.Fatal(status, body)
	}
	var got []string
	for _, span := range spans() {
		if span.Name != "evstream publish" {
			continue
		}
		for _, a := range span.Attributes {
			if a.Key == "evstream.operations" {
				got = append(got, fmt.Sprint(a.Value.Value))
			}
		}
		if span.Parent.SpanID == "" {
			t.Error("a span is not beneath that of its request")
		}
	}
	if slices.Sort(got); !slices.Equal(got, []string{"2", "3"}) {
		t.Errorf("the spans have so many operations: %v", got)
	}
}
