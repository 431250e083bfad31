package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
)

// cuts is a site whose streams are cut again and again.
const cuts = `
	log
	evstream /cut/* {
		allow anyone subscribe,publish **
		max_age 1s
		retry 50ms 100ms
	}
	evstream /away/* {
		allow anyone subscribe,publish **
		max_age 1s
		retry 2s 2s
	}
`

// clients are the EventSources that the tests of cuts use.
var clients = []struct {
	name   string
	proto  string // as Caddy logs it
	follow func(t *testing.T, s *server, path string) follower
}{
	{"Chromium over HTTP/1.1", "HTTP/1.1", func(t *testing.T, s *server, path string) follower {
		return newPage(t, "http://"+s.plain+"/page").follow(t, path)
	}},
	{"Chromium over HTTP/2", "HTTP/2.0", func(t *testing.T, s *server, path string) follower {
		return newPage(t, "https://"+s.tls+"/page").follow(t, path)
	}},
	{"Chromium over HTTP/1.1, attached", "HTTP/1.1", func(t *testing.T, s *server, path string) follower {
		return newPage(t, "http://"+s.attached+"/page").follow(t, path)
	}},
	{"Go over HTTP/1.1", "HTTP/1.1", func(t *testing.T, s *server, path string) follower {
		return follow(t, plainH1, plainH1.url(s, path))
	}},
	{"Go over HTTP/1.1, attached", "HTTP/1.1", func(t *testing.T, s *server, path string) follower {
		return follow(t, attachedH1, attachedH1.url(s, path))
	}},
	{"Go over HTTP/3", "HTTP/3.0", func(t *testing.T, s *server, path string) follower {
		return follow(t, tlsH3, tlsH3.url(s, path))
	}},
}

func TestEveryEventArrivesOnceAndInOrderThroughCuts(t *testing.T) {
	t.Parallel()
	s := start(t, config("", cuts))
	for i, c := range clients {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			channels := []string{"goals", "cards", "odds", "chat/room", "weather"}
			path := fmt.Sprintf("/cut/?channel=c%d/%s", i, strings.Join(channels, fmt.Sprintf("&channel=c%d/", i)))
			source := c.follow(t, s, path)
			p := &publisher{client: plainClient(t), base: "http://" + s.plain + "/cut"}
			eventually(t, "the stream opens", func() bool { return len(source.feed(t).Openings) > 0 })

			// Numbers are published until there were enough of them and of cuts.
			const enough, cuts = 400, 5
			for begun := time.Now(); ; {
				f := source.feed(t)
				if p.last >= enough && f.Cuts >= cuts {
					break
				}
				if time.Since(begun) > patience {
					t.Fatalf("%d published, %d cuts", p.last, f.Cuts)
				}
				if p.last > len(f.Events)+200 {
					continue // what is missed must stay within the history
				}
				for range 1 + p.last%7 {
					if err := p.publish(fmt.Sprintf("c%d/%s", i, channels[(p.last*p.last+p.last/3)%len(channels)])); err != nil {
						t.Fatal(err)
					}
				}
			}
			eventually(t, "all events arrive", func() bool {
				f := source.feed(t)
				return len(f.Events) >= p.last && f.Events[len(f.Events)-1].Data == fmt.Sprint(p.last)
			})
			// After another cut no event has come twice.
			opened := len(source.feed(t).Openings)
			eventually(t, "another cut", func() bool { return len(source.feed(t).Openings) > opened })
			f := source.feed(t)
			f.numbers(t, p.last)
			if len(f.Gaps) > 0 {
				t.Errorf("gaps: %v", f.Gaps)
			}
			t.Logf("%d events over %d connections", p.last, len(f.Openings))
			spoken(t, s, path, c.proto)
		})
	}
}

func TestAStreamCutBeforeAnyEventMissesNone(t *testing.T) {
	t.Parallel()
	s := start(t, config("", cuts))
	for i, c := range clients {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			for attempt := 1; ; attempt++ {
				channel := fmt.Sprintf("quiet%d-%d", i, attempt)
				source := c.follow(t, s, "/away/"+channel)
				eventually(t, "the first cut", func() bool { return source.feed(t).Cuts == 1 })
				p := &publisher{client: plainClient(t), base: "http://" + s.plain + "/away"}
				if err := p.publish(channel); err != nil {
					t.Fatal(err)
				}
				if n := len(source.feed(t).Openings); n != 1 && attempt < 5 {
					continue // on a slow machine it may be back before the event
				}
				eventually(t, "two more connections", func() bool { return len(source.feed(t).Openings) >= 3 })
				f := source.feed(t)
				f.numbers(t, 1)
				if len(f.Gaps) > 0 || f.Openings[0].ID == "" {
					t.Errorf("openings %v, gaps %v", f.Openings, f.Gaps)
				}
				spoken(t, s, "/away/"+channel, c.proto)
				return
			}
		})
	}
}

// spoken checks in the access log which protocol the streams of a URL spoke.
func spoken(t *testing.T, s *server, uri, proto string) {
	t.Helper()
	n := 0
	for _, line := range s.log.lines() {
		var access struct {
			Request struct{ Method, URI, Proto string }
			Reason  string `json:"evstream_reason"`
		}
		if json.Unmarshal([]byte(line), &access) != nil || access.Request.Method != http.MethodGet || access.Request.URI != uri {
			continue
		}
		n++
		if access.Request.Proto != proto {
			t.Errorf("a stream spoke %s", access.Request.Proto)
		}
		if access.Reason != "max_age" && access.Reason != "client" {
			t.Errorf("a stream ended for the reason %q", access.Reason)
		}
	}
	if n == 0 {
		t.Error("no stream is in the access log")
	}
}
