package accept

import "testing"

func TestParse(t *testing.T) {
	for _, tt := range []struct {
		name         string
		accept       []string
		stream, json bool
	}{
		{"nothing said", nil, true, true},
		{"EventSource", []string{"text/event-stream"}, true, false},
		{"curl", []string{"*/*"}, true, true},
		{"json", []string{"application/json"}, false, true},
		{"json before all", []string{"application/json, text/plain, */*"}, false, true},
		{"both", []string{"text/event-stream, application/json"}, true, true},
		{"a browser", []string{"text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}, true, true},
		{"text", []string{"text/*"}, true, false},
		{"json preferred", []string{"text/event-stream;q=0.5, application/json;q=0.9"}, false, true},
		{"stream preferred", []string{"text/event-stream ; q=0.9 , application/json;q=0.8"}, true, true},
		{"no stream", []string{"text/event-stream;q=0, */*"}, false, true},
		{"no json", []string{"*/*, application/json;q=0.000"}, true, false},
		{"two headers", []string{"text/html", "application/json"}, false, true},
		{"case", []string{"Text/Event-Stream;Q=1.0"}, true, false},
		{"something else", []string{"image/png"}, false, false},
		{"a value that is none", []string{";;,,"}, false, false},
		{"an empty value", []string{""}, false, false},
	} {
		if got := Parse(tt.accept); got.Stream != tt.stream || got.JSON != tt.json {
			t.Errorf("%s: got %+v", tt.name, got)
		}
	}
}
