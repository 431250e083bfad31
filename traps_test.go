package evstream

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Caddy's own order of directives would put a plugin's last.
func TestDirectiveComesBeforeThoseThatAnswer(t *testing.T) {
	address := freeAddress(t)
	load(t, options("")+"http://"+address+` {
	respond "rest"
	handle /live/* {
		respond "handled"
	}
	evstream /live/* {
		allow anyone all **
	}
}
`)
	subscribe(t, "http://"+address+"/live/a").cancel()
	if _, body := send(t, http.MethodGet, "http://"+address+"/other", ""); body != "rest" {
		t.Errorf("beside it: %q", body)
	}
}

func TestMountItselfIsServedAndItsNeighboursAreNot(t *testing.T) {
	address := freeAddress(t)
	load(t, options("")+"http://"+address+` {
	evstream /live/* {
		allow anyone all **
	}
	respond "rest"
}
`)
	for _, path := range []string{"/live?channel=a", "/live/?channel=a", "/LIVE/a", "/live/a"} {
		subscribe(t, "http://"+address+path).cancel()
	}
	for _, path := range []string{"/livery", "/livery/a", "/liv", "/"} {
		if _, body := send(t, http.MethodGet, "http://"+address+path, ""); body != "rest" {
			t.Errorf("%s is answered %q", path, body)
		}
	}
}

func TestLongerMountIsTriedFirstWhereverItStands(t *testing.T) {
	address := freeAddress(t)
	load(t, options("")+"http://"+address+` {
	evstream /live/* {
		allow anyone all a
	}
	evstream /live/chat/* {
		allow anyone all b
	}
}
`)
	for path, want := range map[string]int{"/live/a": 200, "/live/b": 403, "/live/chat/b": 200, "/live/chat/a": 403} {
		if status, body := post(t, "http://"+address+path, "x"); status != want {
			t.Errorf("%s: got %d %s, want %d", path, status, body, want)
		}
	}
}

func TestHandlePathStripsTheMount(t *testing.T) {
	address := freeAddress(t)
	load(t, options("")+"http://"+address+` {
	handle_path /inner/* {
		evstream {
			allow anyone all a/b
		}
	}
}
`)
	s := subscribe(t, "http://"+address+"/inner/a/b")
	mustPublish(t, "http://"+address+"/inner/a/b", "x")
	s.expect("x")
}

// encode compresses event streams, at 0.7 MB a connection, and swallows a
// flush before the first WriteHeader.
func TestEncodeLeavesStreamsAlone(t *testing.T) {
	address := freeAddress(t)
	load(t, options("")+"http://"+address+` {
	encode {
		minimum_length 1
		match {
			header Content-Type *
		}
	}
	evstream /live/* {
		allow anyone all **
	}
}
`)
	s := subscribe(t, "http://"+address+"/live/a", header("Accept-Encoding", "gzip"))
	if got := s.header.Get("Content-Encoding"); got != "" {
		t.Errorf("the stream is encoded: %s", got)
	}
	mustPublish(t, "http://"+address+"/live/a", "x")
	s.expect("x")
}

// An error that is returned to Caddy is answered with an empty body, unless
// the site has routes for errors.
func TestErrorsAreProblemsUnlessTheSiteHandlesThem(t *testing.T) {
	address := freeAddress(t)
	_, port, _ := strings.Cut(address, ":")
	one := "http://%s:" + port + " {\n\tbind 127.0.0.1\n\tevstream /live/* {\n\t\tallow anyone all a\n\t}\n%s}\n"
	load(t, options("")+
		fmt.Sprintf(one, "handled.test", "\thandle_errors {\n\t\trespond \"sorry, {err.status_code}\"\n\t}\n")+
		fmt.Sprintf(one, "plain.test", ""))
	url := "http://" + address + "/live/b"
	if status, body := post(t, url, "x", header("Host", "handled.test")); status != 403 || body != "sorry, 403" {
		t.Errorf("with handle_errors: %d %s", status, body)
	}
	if status, body := post(t, url, "x", header("Host", "plain.test")); status != 403 || !strings.Contains(body, "urn:evstream:problem:forbidden") {
		t.Errorf("without: %d %s", status, body)
	}
}

func TestAccessLogTellsReasonAndEvents(t *testing.T) {
	address := freeAddress(t)
	file := filepath.Join(t.TempDir(), "access.log")
	load(t, options("")+"http://"+address+" {\n\tlog {\n\t\toutput file "+file+"\n\t\tformat json\n\t}\n\tevstream /live/* {\n"+allowAnything+"\n\t}\n}\n")
	s := subscribe(t, "http://"+address+"/live/a")
	mustPublish(t, "http://"+address+"/live/a", "x")
	s.expect("x")
	s.cancel()
	type line struct {
		Request struct{ Method string }
		Reason  string `json:"evstream_reason"`
		Events  uint64 `json:"evstream_events"`
	}
	var logged line
	eventually(t, "the stream to be logged", func() bool {
		f, err := os.Open(file)
		if err != nil {
			return false
		}
		defer f.Close()
		for lines := bufio.NewScanner(f); lines.Scan(); {
			if json.Unmarshal(lines.Bytes(), &logged) == nil && logged.Request.Method == http.MethodGet {
				return true
			}
		}
		return false
	})
	if logged.Reason != "client" || logged.Events != 1 {
		t.Errorf("logged %+v", logged)
	}
}

// The admin endpoint reads a request for 10 s and not longer, which here are
// some milliseconds.
func TestReadTimeoutOfTheAdminEndpointCutsNothing(t *testing.T) {
	load(t, site(freeAddress(t), "", allowAnything))
	cut := make(chan struct{})
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/control" {
			_, _ = io.Copy(io.Discard, r.Body)
			close(cut)
			return
		}
		if err := new(Admin).serve(w, r); err != nil {
			t.Error(err)
		}
	}))
	server.Config.ReadTimeout = time.Second // in which a header is read
	server.Start()
	defer server.Close()

	flow := func(path string) io.WriteCloser {
		body, writer := io.Pipe()
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, server.URL+path, body)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/x-ndjson")
		go func() {
			if resp, err := client.Do(r); err == nil {
				resp.Body.Close()
			}
		}()
		return writer
	}
	write := func(to io.Writer, data string) {
		if _, err := io.WriteString(to, data); err != nil {
			t.Fatal(err)
		}
	}
	s := subscribe(t, server.URL+"/evstream/a")
	ours := flow("/evstream/a")
	write(ours, "1\n")
	s.expect("1")
	control := flow("/control") // began later, with the same time
	write(control, "1\n")
	<-cut
	write(ours, "2\n")
	s.expect("2")
	ours.Close()
	s.cancel()
}

func TestSecretsAreExpandedAndNotShown(t *testing.T) {
	t.Setenv("EVSTREAM_TEST_TOKEN", "s3cret-of-the-environment")
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte("s3cret-of-the-file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	address, admin := freeAddress(t), freeAddress(t)
	load(t, withAdmin(admin, address, "", "\t\tbearer e {env.EVSTREAM_TEST_TOKEN}\n\t\tbearer f {file."+file+"}\n\t\tallow e all **\n\t\tallow f all **"))
	for _, secret := range []string{"s3cret-of-the-environment", "s3cret-of-the-file"} {
		if status, body := post(t, "http://"+address+"/live/a", "x", header("Authorization", "Bearer "+secret)); status != http.StatusOK {
			t.Errorf("%s: %d %s", secret, status, body)
		}
	}
	if status, _ := post(t, "http://"+address+"/live/a", "x"); status != http.StatusUnauthorized {
		t.Errorf("without a secret: %d", status)
	}
	if _, config := send(t, http.MethodGet, "http://"+admin+"/config/", ""); strings.Contains(config, "s3cret") {
		t.Error("a secret is in the configuration")
	}
}

func TestOverloadIsARetryOr503(t *testing.T) {
	address := freeAddress(t)
	load(t, options("\tevstream {\n\t\tmax_connections 1\n\t}")+"http://"+address+` {
	evstream /live/* {
		allow anyone all **
		retry 1s
	}
	evstream /strict/* {
		allow anyone all **
		on_overload 503
	}
}
`)
	subscribe(t, "http://"+address+"/live/a")
	over := connect(t, "http://"+address+"/live/a")
	if over.status != http.StatusOK {
		t.Errorf("status %d", over.status)
	}
	over.ended()
	if got := connect(t, "http://"+address+"/strict/a"); got.status != http.StatusServiceUnavailable || got.header.Get("Retry-After") == "" {
		t.Errorf("status %d, Retry-After %q", got.status, got.header.Get("Retry-After"))
	}
}
