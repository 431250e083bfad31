package client

import (
	"encoding/json"
	"io"
	"strings"
	"testing"

	"github.com/evstream/caddy-evstream/sse"
)

func TestWhatAFrameIs(t *testing.T) {
	enclosed := func(channel, event, data string) string {
		doc, err := json.Marshal(map[string]string{"ch": channel, "event": event, "data": data})
		if err != nil {
			t.Fatal(err)
		}
		return string(doc)
	}
	for _, tt := range []struct {
		name    string
		event   sse.Event
		kind    EventKind
		channel string
		data    string // of an event, or the value, or the patch
	}{
		{"an event", sse.Event{Data: []byte(enclosed("a", "message", "x"))}, KindEvent, "a", "x"},
		{"of a name", sse.Event{Type: "n", Data: []byte(enclosed("a", "n", "x"))}, KindEvent, "a", "x"},
		{"of another name than it says", sse.Event{Type: "n", Data: []byte(enclosed("a", "m", "x"))}, KindDirect, "", enclosed("a", "m", "x")},
		{"beneath, with its name", sse.Event{Type: "a/", Data: []byte(enclosed("a/", "a/", "x"))}, KindEvent, "a/", "x"},
		{"a value", sse.Event{Type: "a", Data: []byte(enclosed("a", "a", `{"value":1}`))}, KindValue, "a", "1"},
		{"a value with a key", sse.Event{Type: "a", Data: []byte(enclosed("a", "a", `{"count":null}`))}, KindValue, "a", "null"},
		{"a removal", sse.Event{Type: "a", Data: []byte(enclosed("a", "a", `{"deleted":true}`))}, KindValue, "a", ""},
		{"a patch", sse.Event{Type: "a", Data: []byte(enclosed("a", "a", `{"patch":{"x":1}}`))}, KindValue, "a", `{"x":1}`},
		{"text with the channel's name", sse.Event{Type: "a", Data: []byte(enclosed("a", "a", "x"))}, KindEvent, "a", "x"},
		{"an object with two members", sse.Event{Type: "a", Data: []byte(enclosed("a", "a", `{"x":1,"y":2}`))}, KindEvent, "a", `{"x":1,"y":2}`},
		{"to the session alone", sse.Event{Type: "n", Data: []byte("x")}, KindDirect, "", "x"},
		{"with a name that ends nothing", sse.Event{Type: "end", ID: "1-1", Data: []byte(enclosed("a", "end", "x"))}, KindEvent, "a", "x"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f, err := parseFrame(&tt.event)
			data := string(f.event.Data)
			if f.event.Kind == KindValue {
				data = string(f.event.Value) + string(f.patch)
			}
			if err != nil || f.skip || f.end || f.event.Kind != tt.kind || f.event.Channel != tt.channel || data != tt.data {
				t.Errorf("got %+v, %q, %v", f, data, err)
			}
		})
	}
}

func TestPatchesAreApplied(t *testing.T) {
	for _, tt := range []struct{ value, patch, want string }{
		{`{"pen":1,"paper":{"a4":250}}`, `{"pen":2,"paper":{"a5":1.10}}`, `{"pen":2,"paper":{"a4":250,"a5":1.10}}`},
		{`{"pen":1}`, `{"pen":null}`, `{}`},
		{`{"ink":["a"]}`, `[{"op":"add","path":"/ink/-","value":"b"}]`, `{"ink":["a","b"]}`},
		{`{"ink":["a"]}`, `[{"op":"remove","path":"/pen"}]`, ""},
		{`{}`, `[{"op":"jump"}]`, ""},
		{`{}`, `{`, ""},
		{`x`, `{}`, ""},
		{"", `{}`, ""},
	} {
		var value json.RawMessage
		if tt.value != "" {
			value = json.RawMessage(tt.value)
		}
		got, err := applyPatch(value, json.RawMessage(tt.patch))
		if string(got) != tt.want || (err != nil) != (tt.want == "") {
			t.Errorf("%s, %s: %s, %v", tt.value, tt.patch, got, err)
		}
	}
}

// FuzzStream reads any bytes as a stream: nothing panics, and each event is one thing.
func FuzzStream(f *testing.F) {
	for _, seed := range []string{
		opening, end, event("1-1", "x"),
		"event: a\ndata: {\"ch\":\"a\",\"event\":\"a\",\"data\":\"{\\\"value\\\":{\\\"b\\\":1}}\"}\n\n" +
			"event: a\nid: 1-2\ndata: {\"ch\":\"a\",\"event\":\"a\",\"data\":\"{\\\"patch\\\":{\\\"b\\\":2}}\"}\n\n",
		"event: a\ndata: {\"ch\":\"a\",\"event\":\"a\",\"data\":\"{\\\"patch\\\":[]}\"}\n\n",
		"event: evstream.presence\ndata: {\"channel\":\"a\",\"members\":[{\"user\":\"x\"}]}\n\n",
		"event: evstream.gap\ndata: {\"oldest\":null}\n\n", "event: evstream.closed\ndata: []\n\n",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, stream string) {
		d := sse.NewDecoder(strings.NewReader(stream), 1<<16)
		s := &Subscription{opts: SubscribeOptions{MaxValues: 1 << 10}, patched: true}
		for {
			e, err := d.Next()
			if err != nil {
				if err == io.EOF && len(e.Data) > 0 {
					t.Error("an event with an error")
				}
				return
			}
			got, err := parseFrame(&e)
			if err != nil {
				continue
			}
			if got.event.Kind == KindValue {
				again, err := s.hold(&got)
				switch {
				case err != nil || again:
					continue
				case got.event.Kind == KindValue && got.event.Value != nil && !json.Valid(got.event.Value):
					t.Errorf("%q: the value %q is not JSON", e.Data, got.event.Value)
				}
			}
			held := 0
			for _, value := range s.values {
				held += len(value)
			}
			if held != s.held || held > 1<<10 {
				t.Fatalf("%d bytes are held, and counted as %d", held, s.held)
			}
		}
	})
}
