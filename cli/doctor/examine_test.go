package doctor

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// examined is what is found at a server.
func examined(t *testing.T, c Config) (*Report, error) {
	t.Helper()
	if c.Late == 0 {
		c.Late = 10 * time.Second
	}
	c.Timeout = 30 * time.Second
	return Examine(t.Context(), c, func(string) {})
}

// found reports whether something was.
func found(r *Report, check string, level Level, saw string) bool {
	for _, f := range r.Findings {
		if f.Check == check && f.Level == level && strings.Contains(f.Saw, saw) {
			return true
		}
	}
	return false
}

// foreign is an event stream that is not evstream.
func foreign(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
	_, _ = fmt.Fprint(w, "data: 1\n\n")
	_ = http.NewResponseController(w).Flush()
	<-r.Context().Done()
}

func TestAnyStreamIsLookedAt(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(foreign))
	t.Cleanup(s.Close)
	r, err := examined(t, Config{URL: s.URL + "/events?room=7"})
	if err != nil {
		t.Fatal(err)
	}
	if !found(r, "hub", Note, "is not evstream") || !found(r, "buffering", OK, "a stream began") || r.Problems > 0 {
		t.Errorf("%+v", r)
	}
}

func TestWhatIsNoStreamCannotBeExamined(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/around":
			http.Redirect(w, r, "/around?again", http.StatusFound)
		case "/away":
			w.Header().Set("Location", "ftp://example.com/")
			w.WriteHeader(http.StatusFound)
		default:
			_, _ = fmt.Fprint(w, "<!doctype html>")
		}
	}))
	t.Cleanup(s.Close)
	for path, want := range map[string]string{
		"/":        "which is no event stream",
		"/page":    "which is no event stream",
		"/around":  "more than 5 redirects",
		"/away":    `it redirects to "ftp://example.com/"`,
		"/\x7f":    "invalid control character",
		"/%zz":     "invalid URL escape",
		"/x#there": "has a fragment",
	} {
		if _, err := examined(t, Config{URL: s.URL + path}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", path, err)
		}
	}
}

// The token goes to no other host, also not after a redirect.
func TestATokenIsNotSentOn(t *testing.T) {
	var leaked bool
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		leaked = leaked || r.Header.Get("Authorization") != ""
		foreign(w, r)
	}))
	t.Cleanup(other.Close)
	target := strings.Replace(other.URL, "127.0.0.1", "localhost", 1)
	s := httptest.NewServer(http.RedirectHandler(target+"/events", http.StatusMovedPermanently))
	t.Cleanup(s.Close)
	r, err := examined(t, Config{URL: s.URL + "/events", Token: "secret"})
	if err != nil {
		t.Fatal(err)
	}
	if leaked {
		t.Error("the token was sent to another host")
	}
	if !found(r, "redirect", Warning, "is redirected (301)") || !found(r, "redirect", Note, "the token was not sent on") {
		t.Errorf("%+v", r)
	}
}

// A cache, CORS of two at once, a stream that is cut: what proxies do.
func TestWhatAProxyAddsIsNamed(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		w.Header().Set("X-Cache", "Hit from cloudfront")
		w.Header().Set("Via", "1.1 x.cloudfront.net (CloudFront)")
		w.Header().Add("Access-Control-Allow-Origin", "*")
		w.Header().Add("Access-Control-Allow-Origin", "*")
		_, _ = fmt.Fprint(w, ":\n\n")
		_ = http.NewResponseController(w).Flush()
		if r.Method == http.MethodGet {
			panic(http.ErrAbortHandler)
		}
	}))
	s.Config.ErrorLog = nil
	t.Cleanup(s.Close)
	r, err := examined(t, Config{URL: s.URL + "/events", Origin: "https://app.example", Idle: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	for check, saw := range map[string]string{"cache": "X-Cache: Hit from cloudfront", "cors": "more than once", "idle": "was cut after"} {
		if !found(r, check, Problem, saw) {
			t.Errorf("%s: not found %q: %+v", check, saw, r)
		}
	}
}

// authority signs certificates.
type authority struct {
	cert *x509.Certificate
	der  []byte
	key  *ecdsa.PrivateKey
}

func (a *authority) sign(t *testing.T, change func(*x509.Certificate)) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "a test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(90 * 24 * time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, BasicConstraintsValid: true,
	}
	change(c)
	by, signer := c, key
	if a != nil {
		by, signer = a.cert, a.key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, by, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &authority{cert, der, key}
}

func TestCertificatesAreJudged(t *testing.T) {
	ca := func(name string) func(*x509.Certificate) {
		return func(c *x509.Certificate) {
			c.IsCA, c.Subject.CommonName, c.KeyUsage = true, name, x509.KeyUsageCertSign
		}
	}
	root := (*authority)(nil).sign(t, ca("the root"))
	between := root.sign(t, ca("the intermediate"))
	file := filepath.Join(t.TempDir(), "root.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: root.der}), 0o600); err != nil {
		t.Fatal(err)
	}
	unchanged := func(*x509.Certificate) {}
	for _, tt := range []struct {
		name   string
		by     *authority
		change func(*x509.Certificate)
		chain  [][]byte
		level  Level
		saw    string
	}{
		{"good", between, unchanged, [][]byte{between.der}, OK, "for 127.0.0.1, trusted, for 89 days more"},
		{"ends soon", root, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(49 * time.Hour) }, nil, OK, "trusted"},
		{"ends soon, of a long life", root, func(c *x509.Certificate) {
			c.NotBefore, c.NotAfter = time.Now().Add(-90*24*time.Hour), time.Now().Add(73*time.Hour)
		}, nil, Warning, "it ends in 3 days"},
		{"has ended", root, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }, nil, Problem, "it has ended"},
		{"has not begun", root, func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Hour) }, nil, Problem, "it begins on"},
		{"of another name", root, func(c *x509.Certificate) { c.IPAddresses, c.DNSNames = nil, []string{"other.example"} }, nil, Problem, "it is not for 127.0.0.1, but for other.example"},
		{"no intermediate", between, unchanged, nil, Problem, `it was signed by "the intermediate", which the server does not send`},
		{"self-signed", nil, unchanged, nil, Problem, "it is not trusted"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			leaf := tt.by.sign(t, tt.change)
			var leaked bool
			s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				leaked = leaked || r.Header.Get("Authorization") != ""
				foreign(w, r)
			}))
			s.EnableHTTP2 = true
			s.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: append([][]byte{leaf.der}, tt.chain...), PrivateKey: leaf.key}}}
			s.StartTLS()
			t.Cleanup(s.Close)
			r, err := examined(t, Config{URL: s.URL + "/events", CACert: file, Token: "secret"})
			if err != nil {
				t.Fatal(err)
			}
			if !found(r, "certificate", tt.level, tt.saw) || !found(r, "http", OK, "HTTP/2.0") {
				t.Errorf("%+v", r)
			}
			if bad := tt.level == Problem; leaked == bad {
				t.Errorf("the token was sent: %v", leaked)
			}
		})
	}
}

func TestTheVersionOfHTTPIsJudged(t *testing.T) {
	for _, tt := range []struct {
		url, proto string
		major      int
		alt        string
		level      Level
		saw        string
	}{
		{"https://example.com/live/", "HTTP/2.0", 2, `h3=":443"`, OK, "HTTP/2.0, HTTP/3 offered"},
		{"https://example.com/live/", "HTTP/1.1", 1, "", Warning, "offers no HTTP/2"},
		{"http://example.com/live/", "HTTP/1.1", 1, "", Warning, "without HTTPS"},
		{"http://localhost:8080/live/", "HTTP/1.1", 1, "", OK, "on this machine"},
		{"https://example.com/live/", "HTTP/1.0", 1, "", Problem, "the answer is HTTP/1.0"},
	} {
		u, err := parseURL(tt.url)
		if err != nil {
			t.Fatal(err)
		}
		minor := 1
		if tt.proto == "HTTP/1.0" {
			minor = 0
		}
		x := exam{report: &Report{}, mount: u}
		x.head.Response = &http.Response{Proto: tt.proto, ProtoMajor: tt.major, ProtoMinor: minor, Header: http.Header{"Alt-Svc": {tt.alt}}}
		x.http()
		if !found(x.report, "http", tt.level, tt.saw) {
			t.Errorf("%s over %s: %+v", tt.url, tt.proto, x.report.Findings)
		}
	}
}
