package docs

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"

	"github.com/evstream/caddy-evstream/internal/nettest"
)

var healthURL = regexp.MustCompile(`/evstream/_health/\w*`)

// probes fails the test if a fence asks for no URL of health, or for one that is not
// there, or is no YAML as far as that can be seen.
func probes(t *testing.T, f fence, admin string) {
	t.Helper()
	if strings.Contains(f.text, "\t") {
		t.Errorf("%s: YAML has no tabs", f)
	}
	urls := healthURL.FindAllString(f.text, -1)
	for _, url := range urls {
		if status, body := get(t, "http://"+admin+url); status != http.StatusOK {
			t.Errorf("%s: %s is answered %d %s", f, url, status, body)
		}
	}
	if len(urls) == 0 {
		t.Errorf("%s: asks for nothing", f)
	}
}

func get(t *testing.T, url string) (int, string) {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

// TestTheSiteOfTheOperationsPageTellsHealthAndNothingElse runs the one that lets others
// ask for the health.
func TestTheSiteOfTheOperationsPageTellsHealthAndNothingElse(t *testing.T) {
	var site string
	for _, f := range fences(t, "docs/operations.md") {
		if f.lang == "caddyfile" && healthURL.MatchString(f.text) {
			site += f.text
		}
	}
	const listens, asked = ":8081", "localhost:2019"
	if strings.Count(site, listens) != 1 || strings.Count(site, asked) != 1 {
		t.Fatalf("the site is\n%s", site)
	}
	d := newDocument(t)
	config := fmt.Sprintf("{\n\tadmin %s\n\tpersist_config off\n\tauto_https off\n\tevstream\n}\n", d.admin) +
		strings.NewReplacer(listens, d.site, asked, d.admin).Replace(site)
	if err := caddy.Load(adapt(t, fence{file: "docs/operations.md"}, config), true); err != nil {
		t.Fatal(err)
	}
	nettest.Settled(t, os.Getpid())
	for path, want := range map[string]int{
		"/evstream/_health/live": 200, "/evstream/_health/ready": 200, "/evstream/_health/ready?broker=x": 404,
		"/config/": 404, "/evstream/_channels": 404, "/evstream/_health/ready/": 404, "/": 404,
	} {
		status, body := get(t, "http://"+d.site+path)
		if status != want || status == 404 && strings.Contains(body, "apps") {
			t.Errorf("%s is answered %d %s", path, status, body)
		}
	}
	if status, body := get(t, "http://"+d.site+"/evstream/_health/ready"); !strings.Contains(body, `"status":"ready"`) {
		t.Errorf("ready is answered %d %s", status, body)
	}
}
