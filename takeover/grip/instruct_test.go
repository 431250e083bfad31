package grip

import (
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"
)

// headersOf reads "Name: value" lines.
func headersOf(lines string) http.Header {
	h := make(http.Header)
	for line := range strings.SplitSeq(lines, "\n") {
		if name, value, ok := strings.Cut(line, ": "); ok {
			h.Add(name, value)
		}
	}
	return h
}

// What libraries send: recorded from js-grip 4.3.0, and in the form of django-eventstream.
func TestInstructionsOfLibrariesAreRead(t *testing.T) {
	for name, tt := range map[string]struct {
		headers string
		want    Instruct
	}{
		"js-grip, the least": {
			"Grip-Channel: test\nGrip-Hold: stream",
			Instruct{Hold: true, Channels: []Channel{{Name: "test"}}},
		},
		"js-grip, all": {
			`Grip-Channel: test; prev-id=7, other
Grip-Status: 200
Grip-Hold: stream
Grip-Keep-Alive: event: keep-alive\ndata:\n\n; format=cstring; timeout=20
Grip-Set-Meta: user="a \"b\"", x="1, 2; 3"
Grip-Link: </stream?after=7>; rel=next; timeout=90`,
			Instruct{
				Hold: true, Status: 200, Channels: []Channel{{Name: "test", PrevID: "7", HasPrev: true}, {Name: "other"}},
				KeepAlive: KeepAlive{Data: []byte("event: keep-alive\ndata:\n\n"), Every: 20 * time.Second},
				Meta:      map[string]string{"user": `a "b"`, "x": "1, 2; 3"}, Next: "/stream?after=7", NextAfter: 90 * time.Second,
			},
		},
		"js-grip, no channels": {"Grip-Channel: \nGrip-Status: 304", Instruct{Status: 304}},
		"js-grip, bytes": {
			"Grip-Channel: a\nGrip-Hold: stream\nGrip-Keep-Alive: AAH/; format=base64; timeout=0",
			Instruct{Hold: true, Channels: []Channel{{Name: "a"}}, KeepAlive: KeepAlive{Data: []byte{0, 1, 255, '\n', '\n'}, Every: time.Second}},
		},
		"django-eventstream": {
			`Grip-Channel: events-time%20of; prev-id=12; filter=build-id; filter=skip-users, user-5; filter=require-sub
Grip-Hold: stream
Grip-Set-Meta: user="5", id_format="time%%20of:%(events-time%20of)s"
Grip-Keep-Alive: event: keep-alive\ndata:\n\n; format=cstring; timeout=20
Grip-Link: </events/?channel=time&link=next&recover=true&es-meta=e.y.J>; rel=next`,
			Instruct{
				Hold: true,
				Channels: []Channel{
					{Name: "events-time%20of", PrevID: "12", HasPrev: true, Filters: []string{"build-id", "skip-users"}},
					{Name: "user-5", Filters: []string{"require-sub"}},
				},
				Meta:      map[string]string{"user": "5", "id_format": "time%%20of:%(events-time%20of)s"},
				KeepAlive: KeepAlive{Data: []byte("event: keep-alive\ndata:\n\n"), Every: 20 * time.Second},
				Next:      "/events/?channel=time&link=next&recover=true&es-meta=e.y.J", NextAfter: 120 * time.Second,
			},
		},
		"pages": {"Grip-Link: <?page=2>; rel=next", Instruct{Next: "?page=2", NextAfter: 120 * time.Second}},
		"the rest": {
			`Grip-Channel: a
Grip-Channel: b
Grip-Hold: stream
Grip-Timeout: 60
Grip-Keep-Alive: a;mode=interval
Grip-Link: </gone>; rel="gone", <next,x;y>; rel=next
Grip-Expose-Headers: x-a, X-B`,
			Instruct{
				Hold: true, Channels: []Channel{{Name: "a"}, {Name: "b"}}, KeepAlive: KeepAlive{Data: []byte("a\n\n"), Every: 55 * time.Second, Interval: true},
				Gone: "/gone", Next: "next,x;y", NextAfter: 120 * time.Second, Expose: []string{"X-A", "X-B"},
			},
		},
	} {
		got, err := ReadInstruct(headersOf(tt.headers))
		if err != nil || !reflect.DeepEqual(*got, tt.want) {
			t.Errorf("%s: %v\n%+v\n%+v", name, err, got, tt.want)
		}
	}
}

func TestInstructionsThatAreNotDoneAreErrors(t *testing.T) {
	for headers, want := range map[string]string{
		"Grip-Hold: response\nGrip-Channel: a":                                                "response is not done here",
		"Grip-Hold: Stream\nGrip-Channel: a":                                                  `not "Stream"`,
		"Grip-Hold: stream":                                                                   "needs Grip-Channel",
		"Grip-Hold: stream\nGrip-Hold: stream\nGrip-Channel: a":                               "2 times",
		"Grip-Hold: stream\nGrip-Channel: a; prev-id=1":                                       "rel=next",
		"Grip-Hold: stream\nGrip-Channel: a; filter=http-check":                               `no filter "http-check"; the filters are skip-self, `,
		"Grip-Hold: stream\nGrip-Channel: a; filter=build-id":                                 "id_format",
		"Grip-Hold: stream\nGrip-Channel: a, a":                                               "twice",
		"Grip-Hold: stream\nGrip-Channel: ;prev-id=1":                                         "no name",
		"Grip-Hold: stream\nGrip-Channel: a; x=1":                                             `parameter "x"`,
		"Grip-Hold: stream\nGrip-Channel: " + strings.Repeat("é", 200):                        "cannot be named",
		"Grip-Hold: stream\nGrip-Channel: a\nGrip-Keep-Alive: \\q; format=cstring":            "escapes",
		"Grip-Hold: stream\nGrip-Channel: a\nGrip-Keep-Alive: a; format=x":                    "raw, cstring or base64",
		"Grip-Hold: stream\nGrip-Channel: a\nGrip-Keep-Alive: a; timeout=x":                   "whole number",
		"Grip-Hold: stream\nGrip-Channel: a\nGrip-Keep-Alive: a; mode=x":                      "idle or interval",
		"Grip-Hold: stream\nGrip-Channel: a\nGrip-Set-Meta: id_encoding=\"rot13\"":            "hex",
		"Grip-Hold: stream\nGrip-Channel: a\nGrip-Set-Meta: a=\"b":                            "quote",
		"Grip-Link: /x; rel=next":                                                             "<URI>",
		"Grip-Link: </x>; rel=prev":                                                           "next or gone",
		"Grip-Status: ok":                                                                     "a status",
		"Grip-Timeout: soon":                                                                  "whole number",
		"Grip-Set-Hold: stream":                                                               "not known",
		"Grip-Hold: stream\nGrip-Channel: a\nGrip-Keep-Alive: " + strings.Repeat("a", 10_000): "1 to 4096",
	} {
		if _, err := ReadInstruct(headersOf(headers)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.60q: %v", headers, err)
		}
	}
}

func TestChannelNamesAreEncodedOneToOne(t *testing.T) {
	for name, want := range map[string]string{
		"match.7": "match.7", "events-time": "events-time", "user 1": "user~201", "a=b": "a=b", "a~b": "a~7Eb", "a%20b": "a~2520b",
		"/a": "~2Fa", "a/": "a~2F", "a//b": "a~2F~2Fb", "a/b": "a/b", "*": "~2A", "_x": "~5Fx", "a/_x": "a/_x", "..": "~2E~2E", "é": "~C3~A9", "a/../b": "a/~2E~2E/b", "/": "~2F",
	} {
		if got, err := ChannelName(name); got != want || err != nil {
			t.Errorf("%q: %q, %v, want %q", name, got, err, want)
		}
	}
}

func FuzzInstruct(f *testing.F) {
	f.Add("a; prev-id=1; filter=build-id, b", `a\n; format=cstring; timeout=1`, `user="x", id_format="%(a)s"`, "</x>; rel=next; timeout=3", "200 OK")
	f.Fuzz(func(t *testing.T, channels, alive, meta, link, status string) {
		h := http.Header{headerHold: {"stream"}, headerChannel: {channels}, headerAlive: {alive}, headerMeta: {meta}, headerLink: {link}, headerStatus: {status}}
		i, err := ReadInstruct(h)
		if err != nil {
			return
		}
		if len(i.Channels) == 0 || len(i.KeepAlive.Data) == 0 || i.KeepAlive.Every < time.Second || i.Next != "" && i.NextAfter < time.Second {
			t.Errorf("%+v", i)
		}
		if names := newSubscriptions(i).names(); len(names) != len(i.Channels) {
			t.Errorf("%v are %v", i.Channels, names)
		}
	})
}

// An encoded name is a channel, and tells which name it was.
func FuzzChannelName(f *testing.F) {
	for _, name := range []string{"a", "a/b", "//", "~2F", "a/~2F", "é*", "..", "a/./b"} {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, name string) {
		encoded, err := ChannelName(name)
		if err != nil {
			return
		}
		if back := decodeName(encoded); back != name {
			t.Errorf("%q is %q, which is %q", name, encoded, back)
		}
	})
}

func decodeName(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '~' {
			b.WriteByte(s[i])
			continue
		}
		b.WriteByte(byte(strings.IndexByte("0123456789ABCDEF", s[i+1])<<4 | strings.IndexByte("0123456789ABCDEF", s[i+2])))
		i += 2
	}
	return b.String()
}
