package evstream

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
)

// What the console shows takes a rule of its own, and the page takes none.
func TestConsoleIsForWhomARuleNames(t *testing.T) {
	address := freeAddress(t)
	load(t, site(address, "", `console
		bearer operator "a-secret-of-an-operator"
		bearer backend "a-secret-of-a-backend"
		allow operator console **
		allow backend all **
		allow anyone subscribe **`))
	url := "http://" + address + "/live/_console"
	ask := func(method, url, secret string) (*http.Response, string) {
		t.Helper()
		resp, body, err := answerOf(t, method, url, "", func(r *http.Request) {
			if secret != "" {
				r.Header.Set("Authorization", "Bearer "+secret)
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		return resp, body
	}
	for _, tt := range []struct {
		method, path, secret string
		status               int
		part                 string
	}{
		{"GET", "", "", 200, "<title>evstream console</title>"},
		{"HEAD", "", "", 200, ""},
		{"GET", "/stats", "", 401, "use the console"},
		{"GET", "/stats", "a-secret-of-a-backend", 403, "use the console"}, // all does not contain it
		{"GET", "/stats", "a-secret-of-an-operator", 200, `"broker":"default"`},
		{"GET", "/channels?prefix=a&limit=1", "a-secret-of-an-operator", 200, `"channels":[]`},
		{"GET", "/channels?limit=201", "a-secret-of-an-operator", 400, "from 1 to 200"},
		{"GET", "/channels?limit=1&limit=2", "a-secret-of-an-operator", 400, "given twice"},
		{"GET", "/stats?brokr=x", "a-secret-of-an-operator", 400, "no parameter \\\"brokr\\\""},
		{"GET", "/explain?do=all&channel=a", "a-secret-of-an-operator", 400, "do is one of subscribe"},
		{"GET", "/explain?do=publish", "a-secret-of-an-operator", 400, "channel is required"},
		{"GET", "/explain?do=publish&channel=a&claims=1", "a-secret-of-an-operator", 400, "an object of JSON"},
		{"GET", "/explain?do=console&channel=**&bearer=backend", "a-secret-of-an-operator", 200, `"allowed":false`},
		{"GET", "/explain?do=console&channel=**&bearer=operator", "a-secret-of-an-operator", 200, `"allowed":true,"by":"allow operator console **"`},
		{"GET", "/else", "a-secret-of-an-operator", 404, "_console/stats"},
		{"POST", "", "a-secret-of-an-operator", 405, "with GET"},
		{"OPTIONS", "/stats", "", 204, ""},
		{"GET", "x", "", 404, "none of the hub's own resources"},
	} {
		resp, body := ask(tt.method, url+tt.path, tt.secret)
		if resp.StatusCode != tt.status || !strings.Contains(body, tt.part) {
			t.Errorf("%s %s by %q: %d %s", tt.method, tt.path, tt.secret, resp.StatusCode, body)
		}
	}
	resp, page := ask("GET", url, "")
	if csp := resp.Header.Get("Content-Security-Policy"); !strings.Contains(csp, "default-src 'none'") || strings.Contains(csp, "unsafe") {
		t.Errorf("the policy of the page is %q", csp)
	}
	if strings.Contains(page, "https://") {
		t.Error("the page names another host")
	}
	if status, _ := send(t, "GET", url, "", header("If-None-Match", resp.Header.Get("ETag"))); status != 304 {
		t.Errorf("the page that is known: %d", status)
	}
}

// The totals of the console are those of the hub, and what a channel got is counted since it
// is in memory.
func TestConsoleCounts(t *testing.T) {
	address := freeAddress(t)
	load(t, site(address, "", `console
		allow anyone console,subscribe,publish **`))
	url := "http://" + address + "/live/"
	for range 3 {
		if status, body := post(t, url+"a", "x"); status != 200 {
			t.Fatal(status, body)
		}
	}
	subscribe(t, url+"a")
	var stats struct {
		Streams, Channels int
		Published         uint64 `json:"published_total"`
	}
	var list struct {
		Channels []struct {
			Channel                        string
			Published, Events, Subscribers int
		}
	}
	for path, doc := range map[string]any{"stats": &stats, "channels": &list} {
		if _, body := send(t, "GET", url+"_console/"+path, ""); json.Unmarshal([]byte(body), doc) != nil {
			t.Fatalf("%s: %s", path, body)
		}
	}
	if stats.Streams != 1 || stats.Channels != 1 || stats.Published < 3 {
		t.Errorf("%+v", stats)
	}
	if c := list.Channels; len(c) != 1 || c[0].Channel != "a" || c[0].Published != 3 || c[0].Events != 3 || c[0].Subscribers != 1 {
		t.Errorf("%+v", list)
	}
}

func TestConsoleNeedsARule(t *testing.T) {
	for _, tt := range []struct{ block, want string }{
		{"console\n\t\tallow anyone all **", "console needs a rule of its own"},
		{"console\n\t\tallow anyone console", "a rule is: allow"},
	} {
		if err := adapts(site("127.0.0.1:1", "", tt.block)); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v", tt.block, err)
		}
	}
}
