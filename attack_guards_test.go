package evstream

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
)

// A guard with the handler's own matcher guards all that the handler serves,
// however the path is spelled.

// guardHash is of the password "hiccup", at the lowest cost.
const guardHash = "$2a$04$TMWhH23pK7wxd8LKQstvPe91imCmUKWM4bTmxEbn0op8hQCe2X8Ou"

// guards are sites that ask for credentials in front of a hub at /live.
var guards = map[string]string{
	"basic_auth":      "basic_auth /live/* {\n\t\talice " + guardHash + "\n\t}\n\tevstream /live/* {\n\t\tRULES\n\t}",
	"matcher":         "@m path /live/*\n\tbasic_auth @m {\n\t\talice " + guardHash + "\n\t}\n\tevstream /live/* {\n\t\tRULES\n\t}",
	"forward_auth":    "forward_auth /live/* APP {\n\t\turi /\n\t}\n\tevstream /live/* {\n\t\tRULES\n\t}",
	"handle":          "handle /live/* {\n\t\tbasic_auth {\n\t\t\talice " + guardHash + "\n\t\t}\n\t\tevstream {\n\t\t\tmount /live\n\t\t\tRULES\n\t\t}\n\t}\n\tevstream /public/* {\n\t\tbroker other\n\t\tRULES\n\t}",
	"route":           "route /live/* {\n\t\tbasic_auth {\n\t\t\talice " + guardHash + "\n\t\t}\n\t\tevstream {\n\t\t\tmount /live\n\t\t\tRULES\n\t\t}\n\t}",
	"handle_path":     "handle_path /live/* {\n\t\tbasic_auth {\n\t\t\talice " + guardHash + "\n\t\t}\n\t\tevstream {\n\t\t\tRULES\n\t\t}\n\t}",
	"guard in front":  "basic_auth /live/* {\n\t\talice " + guardHash + "\n\t}\n\thandle /live* {\n\t\tevstream {\n\t\t\tmount /live\n\t\t\tRULES\n\t\t}\n\t}",
	"matcher of both": "@m path /live/*\n\tbasic_auth @m {\n\t\talice " + guardHash + "\n\t}\n\tevstream @m {\n\t\tmount /live\n\t\tRULES\n\t}",
	"the whole site":  "basic_auth /* {\n\t\talice " + guardHash + "\n\t}\n\tevstream /* {\n\t\tRULES\n\t}",
}

// guardSpellings are paths that a matcher and a handler could read in two ways.
var guardSpellings = []string{
	"/live", "/live/", "/LIVE", "/LIVE/", "/LIVE/x", "/live/x", "/live/x/", "/live//x", "/live//", "//live", "//live/", "//live/x", "///live/x",
	"/./live", "/./live/x", "/x/../live", "/x/../live/", "/x/../live/x", "/live/../live", "/live/../live/x", "/../live", "/../live/x",
	"/live/.", "/live/./", "/live/./x", "/live/..", "/live/x/..", "/live/x/../", "/live/x/../x",
	"/live/%2e", "/live/%2e/", "/live/%2e%2e", "/live/%2e%2e/", "/live/%2e%2e/live", "/live/x/%2e%2e", "/%2e/live", "/%2e%2e/live/x",
	"/live%2F", "/live%2f", "/live%2Fx", "/live%2f..%2flive", "/live%2F%2e", "/%2Flive", "/%2flive%2fx", "%2Flive/x",
	"/%6Cive", "/%6cive/", "/%6cive/x", "/l%69ve", "/l%C4%B0ve", "/l%C4%B0ve/x", "/live%00", "/live/%00", "/live%20", "/live/%20", "/live%09/x",
	"/live.", "/live./x", "/live;x", "/live;x/y", "/live/;x", "/live%3F", "/live%3Fchannel=**", "/live%23", "/live#x", "/live\\x", "/live%5Cx", "/live%5C", "/live/%5C",
	"/live*", "/live/*", "/live/**", "/live/x*", "/live/_publish", "/live/_channels", "/live/_tickets", "/live/_revocations", "/LIVE/_publish", "/live/%5Fpublish",
	"/live//_publish", "/live/./_channels", "/live/x/../_channels", "/live%2F_channels", "/live?", "/live/?", "/livery", "/live-x", "/live%2Dx", "/liv", "/",
}

// guardQueries are what is asked of each path; the poll begins at the beginning.
var guardQueries = []string{"", "channel=**&poll=1&since=earliest", "channel=**&since=earliest", "info", "poll=1&since=earliest&timeout=0"}

// guardedSite runs a site with a guard, where a secret was published.
func guardedSite(t *testing.T, guard string) (address string) {
	t.Helper()
	address, app, unguarded := freeAddress(t), freeAddress(t), freeAddress(t)
	block := strings.NewReplacer("RULES", "allow anyone all **", "APP", app).Replace(guards[guard])
	load(t, options("\tevstream\n\tevstream other\n\tservers {\n\t\tprotocols h1 h2c\n\t}")+fmt.Sprintf(`
http://%s {
	%s
	respond "the rest of the site" 418
}
http://%s {
	@known header Authorization *
	respond @known 200
	respond 401
}
http://%s {
	evstream {
		allow anyone all **
	}
}
`, address, block, app, unguarded))
	mustPublish(t, "http://"+unguarded+"/x", "the secret")
	if status, body := send(t, http.MethodPut, "http://"+unguarded+"/v", `"the secret"`); status != http.StatusCreated {
		t.Fatal(status, body)
	}
	return address
}

func TestAGuardWithTheMatcherOfTheHandlerGuardsAllThatItServes(t *testing.T) {
	for guard := range guards {
		t.Run(guard, func(t *testing.T) {
			address := guardedSite(t, guard)
			for _, spelling := range guardSpellings {
				for _, query := range guardQueries {
					target := withQuery(spelling, query)
					for _, method := range []string{"GET", "POST", "PUT", "HEAD", "DELETE"} {
						if method != "GET" && query != "" {
							continue
						}
						served(t, "HTTP/1.1", method, target, rawAnswer(t, address, method, target))
						if method != "GET" || query != guardQueries[1] {
							continue
						}
						served(t, "absolute", method, target, rawAnswer(t, address, method, "http://"+address+target))
					}
				}
			}
			client := overHTTP2()
			defer client.CloseIdleConnections()
			for _, spelling := range guardSpellings {
				for _, query := range guardQueries {
					target := withQuery(spelling, query)
					if u, err := url.Parse("http://" + address + target); err == nil {
						served(t, "HTTP/2", "GET", target, http2Answer(t, client, u))
					}
				}
			}

			// With the password everything is there, also from where nothing is served.
			for _, path := range []string{"/live", "/live/", "/LIVE/"} {
				if guard == "the whole site" {
					path = "/"
				} else if strings.HasPrefix(guard, "handle") || guard == "route" || guard == "matcher of both" {
					path = "/live/" // /live is not the handler's
				}
				status, body := send(t, "GET", "http://"+address+path+"?channel=**&poll=1&since=earliest", "",
					func(r *http.Request) { r.SetBasicAuth("alice", "hiccup") }, header("Accept", "application/json"))
				if status != http.StatusOK || !strings.Contains(body, "the secret") {
					t.Errorf("%s with the password: %d %s", path, status, body)
				}
			}
		})
	}
}

func withQuery(target, query string) string {
	switch {
	case query == "":
		return target
	case strings.Contains(target, "?"):
		return target + query
	}
	return target + "?" + query
}

// guardAnswer is what was answered without credentials.
type guardAnswer struct {
	status   int
	location string
	body     string
}

// served fails the test if something was served.
func served(t *testing.T, over, method, target string, a guardAnswer) {
	t.Helper()
	switch a.status {
	case http.StatusPermanentRedirect:
		// The rest of a path may say more than the name, but never be of the mount.
		if !strings.Contains(strings.ToLower(a.location), "ve/") || a.body != "" {
			t.Errorf("%s: %s %s: goes to %q, with %q", over, method, target, a.location, a.body)
		}
	case http.StatusBadRequest, http.StatusUnauthorized, http.StatusTeapot, http.StatusMethodNotAllowed:
		if strings.Contains(a.body, "secret") {
			t.Errorf("%s: %s %s: %d %s", over, method, target, a.status, a.body)
		}
	case http.StatusNotFound:
		if !strings.Contains(a.body, "none of the hub's own resources") {
			t.Errorf("%s: %s %s: %d %s", over, method, target, a.status, a.body)
		}
	default:
		t.Errorf("%s: %s %s: is answered %d %q", over, method, target, a.status, a.body)
	}
}

// rawAnswer sends a request as it is written.
func rawAnswer(t *testing.T, address, method, target string) guardAnswer {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(patience))
	accept := "*/*"
	if strings.Contains(target, "channel=**&since") {
		accept = "text/event-stream"
	}
	body := ""
	if method == "POST" || method == "PUT" {
		body = `{"channel":"x","data":"an attack"}`
	}
	fmt.Fprintf(conn, "%s %s HTTP/1.1\r\nHost: %s\r\nAccept: %s\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s",
		method, target, address, accept, len(body), body)
	resp, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: method})
	if err != nil {
		t.Fatalf("%s %s: %v", method, target, err)
	}
	return answered(resp)
}

func http2Answer(t *testing.T, client *http.Client, u *url.URL) guardAnswer {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+u.Host, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.URL = u
	resp, err := client.Do(r)
	if err != nil {
		t.Fatalf("%s: %v", u, err)
	}
	if resp.ProtoMajor != 2 {
		t.Fatalf("%s was asked over %s", u, resp.Proto)
	}
	return answered(resp)
}

func answered(resp *http.Response) guardAnswer {
	defer resp.Body.Close()
	a := guardAnswer{status: resp.StatusCode, location: resp.Header.Get("Location")}
	if resp.StatusCode >= 300 {
		text, _ := io.ReadAll(resp.Body)
		a.body = string(text)
	}
	return a
}

// overHTTP2 is a client that follows no redirect.
func overHTTP2() *http.Client {
	var p http.Protocols
	p.SetUnencryptedHTTP2(true)
	return &http.Client{
		Transport:     &http.Transport{Protocols: &p},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// The mount without its slash is answered alike, by every server and for every
// method, also to pages of other origins.
func TestTheMountWithoutItsSlashIsRedirected(t *testing.T) {
	eachServer(t, func(t *testing.T, on server) {
		e := on.start(t, withCORS("https://app.example"))
		for _, tt := range []struct{ path, want string }{
			{"/live", "live/"},
			{"/LIVE?channel=a%2Fb&channel=**", "LIVE/?channel=a%2Fb&channel=**"},
			{"/%6Cive?poll=1", "%6Cive/?poll=1"},
			{"/live?", "live/"},
		} {
			for _, method := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "BREW"} {
				resp := ask(t, e, request{method, tt.path, []string{"Origin: https://app.example"}, ""})
				body := bodyOf(t, resp)
				if resp.StatusCode != 308 || resp.Header.Get("Location") != tt.want || body != "" {
					t.Errorf("%s %s: %d, Location %q, want %q; %q", method, tt.path, resp.StatusCode, resp.Header.Get("Location"), tt.want, body)
				}
				if resp.Header.Get("Access-Control-Allow-Origin") != "https://app.example" || resp.Header.Get("Cache-Control") != "no-store" {
					t.Errorf("%s %s: the headers are %v", method, tt.path, resp.Header)
				}
			}
		}
	})
}
