package evstream

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
)

// tlsSite is a site that tells in a header what it knows of TLS, and writes a log. If it takes
// certificates of clients, it lets one of them to its streams; Caddy resumes no sessions then.
func tlsSite(a *authority, port, log, delivery string, mutual bool) string {
	auth, who := "", "anyone"
	if mutual {
		auth = fmt.Sprintf("client_auth {\n\t\t\tmode verify_if_given\n\t\t\ttrust_pool file %s\n\t\t}", a.file("ca.pem"))
		who = "@alice"
	}
	return fmt.Sprintf(`{
	admin off
	persist_config off
	auto_https disable_redirects
	servers {
		protocols h1 h2
	}
}
https://localhost:%s {
	bind 127.0.0.1
	tls %s %s {
		%s
	}
	log {
		output file %s
		format json
	}
	header X-Tls "{http.request.tls.client.subject};{http.request.tls.version};{http.request.tls.proto};{http.request.tls.server_name};{http.request.tls.resumed}"
	@alice vars {http.request.tls.client.subject} CN=alice
	evstream /live/* {
		allow %s all **
		delivery %s
	}
	respond "page"
}
`, port, a.file("server.pem"), a.file("server.key"), auth, log, who, delivery)
}

// TestDetachedStreamsLeaveTLSAsItIs compares what Caddy knows of TLS with detached streams and
// with attached ones: in matchers, in headers and in its log, for connections that are new and
// that resume a session, for requests that open a stream and those after it.
func TestDetachedStreamsLeaveTLSAsItIs(t *testing.T) {
	a := newAuthority(t)
	a.issue("server", &x509.Certificate{DNSNames: []string{"localhost"}})
	for _, name := range []string{"alice", "bob"} {
		a.issue(name, &x509.Certificate{ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	}
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		for _, proto := range []string{"h2", "http/1.1"} {
			for _, mutual := range []bool{false, true} {
				t.Run(fmt.Sprint(tls.VersionName(version), " ", proto, " client certificates ", mutual), func(t *testing.T) {
					attached, detached := visitTLS(t, a, version, proto, mutual, "attached"), visitTLS(t, a, version, proto, mutual, "auto")
					known := strings.Contains(attached, `"client_common_name":"alice"`)
					if attached != detached || known != mutual || strings.Contains(attached, `"Resumed":true`) == mutual {
						t.Errorf("with attached streams the log is\n%s\nwith detached ones\n%s", attached, detached)
					}
				})
			}
		}
	}
}

// visitTLS has each client open two connections, with a stream each, and returns what the log
// tells of them.
func visitTLS(t *testing.T, a *authority, version uint16, proto string, mutual bool, delivery string) string {
	t.Helper()
	_, port, _ := strings.Cut(freeAddress(t), ":")
	log := filepath.Join(t.TempDir(), "log")
	load(t, tlsSite(a, port, log, delivery, mutual))
	base := "https://localhost:" + port
	roots := x509.NewCertPool()
	roots.AddCert(a.cert)
	for _, who := range []string{"", "alice", "bob"} {
		config := &tls.Config{
			RootCAs: roots, MinVersion: version, MaxVersion: version, NextProtos: []string{proto},
			ClientSessionCache: tls.NewLRUClientSessionCache(0),
		}
		subject, status := "", http.StatusOK
		if who != "" {
			certificate, err := tls.LoadX509KeyPair(a.file(who+".pem"), a.file(who+".key"))
			if err != nil {
				t.Fatal(err)
			}
			config.Certificates = []tls.Certificate{certificate}
			if mutual {
				subject = "CN=" + who
			}
		}
		if mutual && who != "alice" {
			status = http.StatusForbidden
		}
		for _, again := range []bool{false, true} {
			transport := &http.Transport{TLSClientConfig: config, ForceAttemptHTTP2: proto == "h2"}
			useTransport(t, transport)
			name := map[uint16]string{tls.VersionTLS12: "tls1.2", tls.VersionTLS13: "tls1.3"}[version]
			want := fmt.Sprintf("%s;%s;%s;localhost;%v", subject, name, proto, again && !mutual)
			s := connect(t, base+"/live/a")
			if got := s.header.Get("X-Tls"); s.status != status || got != want {
				t.Errorf("%s, %q: the stream is answered %d, with %q, not %q", delivery, who, s.status, got, want)
			}
			major := map[string]uint8{"h2": 2, "http/1.1": 1}[proto]
			if status == http.StatusOK {
				eventually(t, "the stream", func() bool { return servedOver(t, major, delivery == "auto") == 1 })
			}
			if major == 2 { // over the same connection
				resp, body, err := answerOf(t, http.MethodGet, base+"/page?"+who, "")
				if err != nil || body != "page" {
					t.Fatalf("read %q, %v", body, err)
				}
				if got := resp.Header.Get("X-Tls"); got != want || resp.ProtoMajor != 2 {
					t.Errorf("%s, %q: a page is answered with %q, not %q", delivery, who, got, want)
				}
			}
			s.cancel()
			eventually(t, "the end of the stream", func() bool { return theHub(t, "default").Stats().Streams == 0 })
			transport.CloseIdleConnections()
		}
	}
	if err := caddy.Stop(); err != nil { // so that all is written
		t.Fatal(err)
	}
	return tlsOfLog(t, log)
}

// tlsOfLog is what an access log tells of requests and of TLS, sorted.
func tlsOfLog(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for line := range strings.Lines(string(text)) {
		var entry struct {
			Request struct {
				Proto, URI string
				TLS        struct {
					Resumed bool
					Version int
					Proto   string
					Server  string `json:"server_name"`
					Client  string `json:"client_common_name"`
					Serial  string `json:"client_serial"`
				}
			}
			Status int
		}
		if err := json.Unmarshal([]byte(line), &entry); err != nil {
			t.Fatal(err)
		}
		short, err := json.Marshal(entry)
		if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, string(short))
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}
