package evstream

import (
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/evstream/caddy-evstream/broker"
)

func TestInfoDescribesAChannel(t *testing.T) {
	eachServer(t, func(t *testing.T, on server) {
		e := on.start(t)
		oldest := mustPost(t, e, "/live/match.7", "1")
		newest := mustPost(t, e, "/live/match.7", "2")
		mustPost(t, e, "/live/match.8", "3")
		sub, err := e.hub.Broker().Subscribe(broker.SubscribeOptions{Channels: []string{"match.7", "match.9"}})
		if err != nil {
			t.Fatal(err)
		}
		defer sub.Close()
		info, _ := e.hub.Broker().Channel("match.7")
		resp := ask(t, e, request{"GET", "/live/match.7?info", []string{"Accept: application/json"}, ""})
		want := fmt.Sprintf(`{"channel":"match.7","subscribers":1,"history":{"events":2,"bytes":%d,"oldest":%q,"newest":%q},"last_event_id":%q}`,
			info.Bytes, oldest, newest, e.hub.Broker().Head())
		if got := bodyOf(t, resp); got != want || resp.Header.Get("Cache-Control") != "no-store" {
			t.Errorf("got %s, want %s", got, want)
		}
		resp = ask(t, e, request{"GET", "/live/match.9?info", nil, ""})
		if got := bodyOf(t, resp); !strings.Contains(got, `"history":{"events":0,"bytes":`) || !strings.Contains(got, `"oldest":null,"newest":null}`) {
			t.Errorf("got %s", got)
		}
		if resp := ask(t, e, request{method: "HEAD", path: "/live/match.7?info"}); resp.StatusCode != 200 {
			t.Errorf("HEAD: %d", resp.StatusCode)
		}
	})
}

// list reads one page of channels.
func list(t *testing.T, e *testSite, q request) (names []string, next string) {
	t.Helper()
	resp := ask(t, e, q)
	body := bodyOf(t, resp)
	var doc struct {
		Channels []struct{ Channel string }
		Next     string
	}
	if err := json.Unmarshal([]byte(body), &doc); err != nil || resp.StatusCode != 200 || doc.Channels == nil {
		t.Fatalf("%d %s", resp.StatusCode, body)
	}
	for _, c := range doc.Channels {
		names = append(names, c.Channel)
	}
	return names, doc.Next
}

func TestListsNameWhatTheCallerMayRead(t *testing.T) {
	eachServer(t, func(t *testing.T, on server) {
		e := on.start(t)
		var all, public []string
		for i := range 300 {
			name := fmt.Sprintf("%s/%03d", []string{"public", "secret", "zebra"}[i%3], i)
			all = append(all, name)
			if i%3 == 0 {
				public = append(public, name)
			}
			mustPost(t, e, "/live/"+name, "x")
		}
		mustPost(t, e, "/live/public/", "beneath is no channel")
		slices.Sort(all)
		for _, tt := range []struct {
			name, query string
			build       func(path string) request
			want        []string
			limit       int
		}{
			{"the backend", "limit=7", func(p string) request { return asBackend("GET", p, "") }, all, 7},
			{"anyone", "limit=7", func(p string) request { return request{method: "GET", path: p} }, public, 7},
			{"anyone, one by one", "limit=1", func(p string) request { return request{method: "GET", path: p} }, public, 1},
			{"a prefix", "prefix=zebra/1&limit=1000", func(p string) request { return asBackend("GET", p, "") }, slices.DeleteFunc(slices.Clone(all), func(s string) bool { return !strings.HasPrefix(s, "zebra/1") }), 1000},
			{"a prefix that is not allowed", "prefix=secret", func(p string) request { return request{method: "GET", path: p} }, nil, 100},
			{"the default", "", func(p string) request { return asBackend("GET", p, "") }, all, 100},
		} {
			t.Run(tt.name, func(t *testing.T) {
				var got []string
				for after := ""; ; {
					page, next := list(t, e, tt.build("/live/_channels?"+tt.query+"&after="+url.QueryEscape(after)))
					if len(page) > tt.limit || next != "" && (len(page) != tt.limit || next != page[len(page)-1]) {
						t.Fatalf("a page has %d, next %q", len(page), next)
					}
					got = append(got, page...)
					if after = next; next == "" {
						break
					}
				}
				if !slices.Equal(got, tt.want) {
					t.Errorf("got %d %q, want %d", len(got), got, len(tt.want))
				}
			})
		}
	})
}

func TestAnEmptyListAndBadOnes(t *testing.T) {
	eachServer(t, func(t *testing.T, on server) {
		e := on.start(t)
		resp := ask(t, e, request{method: "GET", path: "/live/_channels"})
		if got := bodyOf(t, resp); got != `{"channels":[]}` || resp.Header.Get("Cache-Control") != "no-store" {
			t.Errorf("got %s", got)
		}
		for _, limit := range []string{"0", "-1", "1001", "x", ""} {
			wantProblem(t, ask(t, e, request{method: "GET", path: "/live/_channels?limit=" + limit}), 400, "bad-parameter")
		}
		wantProblem(t, ask(t, e, request{method: "GET", path: "/live/_channels?prefix=a&prefix=b"}), 400, "bad-parameter")
		wantProblem(t, ask(t, e, request{"GET", "/live/_channels", []string{"Authorization: Bearer x"}, ""}), 401, "unauthorized")

		e = on.start(t, withRules("backend subscribe **", "anyone publish **"), withBearers(map[string]string{"backend": "1", "guest": "2"}))
		wantProblem(t, ask(t, e, request{method: "GET", path: "/live/_channels"}), 401, "unauthorized")
		wantProblem(t, ask(t, e, request{"GET", "/live/_channels", []string{"Authorization: Bearer 2"}, ""}), 403, "forbidden")
	})
}
