package main

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	h2spec "github.com/summerwind/h2spec/config"
	"github.com/summerwind/h2spec/generic"
	"github.com/summerwind/h2spec/hpack"
	h2specs "github.com/summerwind/h2spec/http2"
	"github.com/summerwind/h2spec/spec"
)

// h2specSite is a Caddy with a site over TLS whose streams are delivered as the option says.
func h2specSite(admin, secure, delivery, cert, key string) string {
	return fmt.Sprintf(`{
	admin %s
	persist_config off
	auto_https off
	metrics
}
https://%s {
	tls %s %s
	respond /page "a page"
	evstream /live/* {
		allow anyone subscribe,publish **
		heartbeat off
		delivery %s
	}
}
`, admin, secure, cert, key, delivery)
}

// TestH2specFindsTheSame has h2spec examine Caddy while streams over HTTP/2 are detached, and
// while they are attached, which is as Caddy is without evstream. It finds the same with a page,
// with a page on a connection that has a stream already, and is parked, and with a stream on one.
func TestH2specFindsTheSame(t *testing.T) {
	cert, key, _ := selfSigned(t)
	detached := regexp.MustCompile(`evstream_sessions\{[^}]*delivery="detached"[^}]*protocol="http/2"[^}]*\} [1-9]`)
	for name, test := range map[string]struct{ path, beside string }{
		"a page":                         {path: "/page"},
		"a page beside a stream":         {path: "/page", beside: "/live/b"},
		"a stream beside another stream": {path: "/live/a", beside: "/live/b"},
	} {
		t.Run(name, func(t *testing.T) {
			var with, without examiner
			for x, delivery := range map[*examiner]string{&with: "auto", &without: "attached"} {
				admin, secure := free(t), free(t)
				runCaddy(t, h2specSite(admin, secure, delivery, cert, key), secure)
				*x = examiner{address: secure, path: test.path, overTLS: test.beside == ""}
				if test.beside != "" {
					x.address = relayH2(t, secure, test.beside, func() {
						if detached.MatchString(metricsOf(t, admin)) {
							x.detached++
						}
						for end := time.Now().Add(time.Second); delivery == "auto" && time.Now().Before(end); {
							if parked(t, admin) {
								x.parked++
								break
							}
						}
					})
				}
			}
			expected, found := without.examine(t), with.examine(t)
			if len(expected) < 100 || len(found) != len(expected) {
				t.Fatalf("there are %d results without, and %d with detached streams", len(expected), len(found))
			}
			if without.detached > 0 || (with.detached > 100) != (test.beside != "") {
				t.Fatalf("%d and %d connections have had a detached stream", without.detached, with.detached)
			}
			if (with.parked > 100) != (test.beside != "") {
				t.Fatalf("%d connections were parked", with.parked)
			}
			for title, result := range found {
				// Some results depend on how quick a handler is: they are not always the same.
				seen, seenWithout := map[string]bool{result: true}, map[string]bool{expected[title]: true}
				section, _, _ := strings.Cut(title, " ")
				for range 30 {
					if haveInCommon(seen, seenWithout) {
						break
					}
					seenWithout[without.examine(t, section)[title]] = true
					seen[with.examine(t, section)[title]] = true
				}
				if !haveInCommon(seen, seenWithout) {
					t.Errorf("%s: %v, and without detached streams %v", title, seen, seenWithout)
				}
			}
		})
	}
}

func haveInCommon(a, b map[string]bool) bool {
	for k := range a {
		if b[k] {
			return true
		}
	}
	return false
}

// examiner is an h2spec for a server.
type examiner struct {
	address, path string
	overTLS       bool
	detached      int // connections that have had a detached stream
	parked        int // and no server before h2spec has begun
}

func metricsOf(t *testing.T, admin string) string { return adminTells(t, admin, "/metrics") }

// parked reports whether a connection of a Caddy has streams and no server of HTTP/2.
func parked(t *testing.T, admin string) bool {
	for stack := range strings.SplitSeq(adminTells(t, admin, "/debug/pprof/goroutine?debug=1"), "\n\n") {
		if strings.Contains(stack, "h2front.(*Conn).wait") && !strings.Contains(stack, "h2front.(*Conn).linger") {
			return true
		}
	}
	return false
}

func adminTells(t *testing.T, admin, path string) string {
	t.Helper()
	answer, err := (&caddy{address: admin}).ask(t.Context(), http.MethodGet, path, nil)
	if err != nil {
		t.Error(err)
	}
	return string(answer.body)
}

// examine returns what h2spec finds in sections, or in all: the results by titles.
func (x *examiner) examine(t *testing.T, sections ...string) map[string]string {
	t.Helper()
	host, port, err := net.SplitHostPort(x.address)
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(port)
	if err != nil {
		t.Fatal(err)
	}
	c := &h2spec.Config{
		Host: host, Port: n, Path: x.path, TLS: x.overTLS, Insecure: true,
		Timeout: time.Second, MaxHeaderLen: 4000, Strict: true, Sections: sections,
	}
	out := os.Stdout
	if os.Stdout, err = os.Open(os.DevNull); err != nil { // it tells each result
		t.Fatal(err)
	}
	defer func() { _ = os.Stdout.Close(); os.Stdout = out }()
	results := map[string]string{}
	var collect func(*spec.TestGroup)
	collect = func(group *spec.TestGroup) {
		for _, test := range append(group.Tests, group.StrictTests...) {
			if test.Result == nil { // it is not of these sections
				continue
			}
			results[fmt.Sprintf("%s/%d %s", group.ID(), test.Result.Sequence, test.Desc)] = told(test.Result)
		}
		for _, g := range group.Groups {
			collect(g)
		}
	}
	for _, group := range []*spec.TestGroup{generic.Spec(), h2specs.Spec(), hpack.Spec()} {
		group.Test(c)
		collect(group)
	}
	return results
}

// told is a result in a few words.
func told(r *spec.TestResult) string {
	var failure *spec.TestError
	switch {
	case r.Skipped:
		return "skipped"
	case !r.Failed:
		return "passed"
	case errors.As(r.Error, &failure):
		seen, _, _ := strings.Cut(failure.Actual, "(") // the frame, without its details
		return "failed: " + seen
	}
	return "failed: " + r.Error.Error()
}
