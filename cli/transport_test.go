package cli

import (
	"encoding/pem"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/evstream/caddy-evstream/client"
)

// A hub with a certificate of one's own is spoken to by any command.
func TestAHubWithACertificateOfItsOwn(t *testing.T) {
	hub := startHub(t)
	to, err := url.Parse(hub.URL)
	if err != nil {
		t.Fatal(err)
	}
	secure := httptest.NewUnstartedServer(httputil.NewSingleHostReverseProxy(to))
	secure.Config.ErrorLog = nil
	secure.StartTLS()
	defer secure.Close()
	t.Setenv("EVSTREAM_URL", secure.URL+"/live")
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	roots := file("roots.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: secure.Certificate().Raw})))
	if got := alike(must(t, "", "publish", "a", "x", "--cacert", roots)); got != "ID\n" {
		t.Errorf("%q", got)
	}
	if got := must(t, "", "subscribe", "a", "--last", "1", "--count", "1", "--raw", "--quiet", "--cacert", roots); got != "x\n" {
		t.Errorf("%q", got)
	}
	for _, tt := range []struct {
		args, want string
		status     int
	}{
		{"", "certificate", StatusFailed},
		{"--cacert " + file("none.pem", "no certificate"), "none.pem has no certificate in PEM", StatusUsage},
		{"--cacert " + filepath.Join(dir, "missing"), "--cacert: open ", StatusUsage},
	} {
		_, _, err := run(t, "", append([]string{"channels"}, strings.Fields(tt.args)...)...)
		if err == nil || !strings.Contains(err.Error(), tt.want) || Status(err) != tt.status {
			t.Errorf("%s: %v (status %d), want %q", tt.args, err, Status(err), tt.want)
		}
	}
}

// The admin endpoint may be a socket, as Caddy's own commands have it.
func TestTheAdminEndpointMayBeASocket(t *testing.T) {
	hub := startHub(t)
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	admin := &httptest.Server{Listener: l, Config: &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "" || r.Host != "127.0.0.1" {
			t.Errorf("%s, %q", r.Host, r.Header)
		}
		r.Header.Set("Authorization", "Bearer "+backend) // here everything is allowed
		r.URL.Path = strings.Replace(r.URL.Path, "/evstream", "/live", 1)
		hub.Config.Handler.ServeHTTP(w, r)
	})}}
	admin.Start()
	defer admin.Close()
	t.Setenv("EVSTREAM_URL", "")
	t.Setenv("CADDY_ADMIN", "unix/"+path+"|0600")
	if got := alike(must(t, "", "publish", "a", "x")); got != "ID\n" {
		t.Errorf("%q", got)
	}
	t.Setenv("CADDY_ADMIN", "unix/"+path+".none")
	if _, _, err := run(t, "", "publish", "a", "x"); err == nil || !strings.Contains(err.Error(), "no Caddy runs here") {
		t.Error(err)
	}
}

// What has changed in a channel is told in one order.
func TestAPresenceChangeIsAlwaysToldAlike(t *testing.T) {
	p := &client.PresenceChange{Count: 3, Left: []client.Member{{User: "ada"}}, Updated: []client.Member{{User: "bob"}}}
	for range 50 {
		if got := present(p); got != "3 present; left: ada; updated: bob" {
			t.Fatalf("%q", got)
		}
	}
}
