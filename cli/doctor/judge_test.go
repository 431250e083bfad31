package doctor

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/evstream/caddy-evstream/cli/internal/term"
)

func TestProxiesAreRecognised(t *testing.T) {
	for _, tt := range []struct {
		header []string
		want   []string
	}{
		{[]string{"Server: nginx/1.22.1"}, []string{nginx}},
		{[]string{"Server: openresty"}, []string{nginx}},
		{[]string{"Server: cloudflare", "Cf-Ray: 1"}, []string{cloudflare}},
		{[]string{"Server: Caddy"}, []string{}}, // the hub
		{[]string{"Server: Caddy", "Via: 1.1 Caddy"}, []string{caddy}},
		{[]string{"Server: nginx", "Via: 1.1 abc.cloudfront.net (CloudFront)"}, []string{nginx, cloudfront}},
		{[]string{"Set-Cookie: AWSALB=x; Path=/"}, []string{alb}},
		{[]string{"Server: Apache/2.4.66 (Debian)"}, []string{apache}},
		{nil, []string{}},
	} {
		h := http.Header{}
		for _, line := range tt.header {
			name, value, _ := strings.Cut(line, ": ")
			h.Add(name, value)
		}
		if got := recognise(h); !slices.Equal(got, tt.want) {
			t.Errorf("%q: got %q, want %q", tt.header, got, tt.want)
		}
	}
}

func TestFixesAreThoseOfWhatIsThere(t *testing.T) {
	in := func(list []Fix) (names []string) {
		for _, f := range list {
			names = append(names, f.In)
		}
		return names
	}
	if got := in(fixes(fixIdle, []string{nginx})); !slices.Equal(got, []string{nginx, evstream}) {
		t.Errorf("behind nginx: %q", got)
	}
	if got := in(fixes(fixIdle, nil)); len(got) != len(remedies(fixIdle)) {
		t.Errorf("behind nobody known: %q", got)
	}
	if got := in(fixes(fixHTTP10, []string{cloudflare})); len(got) != len(remedies(fixHTTP10)) {
		t.Errorf("behind one whose fix is not known: %q", got)
	}
	for _, kind := range []string{
		fixBuffering, fixCompression, fixIdle, fixLifetime, fixLastEventID, fixHTTP10, fixHTTP2, fixCORS, fixCORSTwice,
		fixPreflight, fixRequest, fixCache, fixNodes, fixClock, fixCertificate, fixChain,
	} {
		if len(remedies(kind)) == 0 {
			t.Errorf("%s: nothing helps", kind)
		}
	}
}

func TestAQuietStreamIsJudged(t *testing.T) {
	second := time.Second
	for _, tt := range []struct {
		name  string
		s     quietStream
		err   error
		level Level
		saw   string
		kind  string
	}{
		{"it lives", quietStream{true, 75 * second, 10 * second, []time.Duration{15 * second}, 75 * second}, errLate, OK, "with a heartbeat each 15s", ""},
		{"watched too short", quietStream{true, 5 * second, 5 * second, nil, 5 * second}, errLate, Note, "no heartbeat came; --idle", ""},
		{"no heartbeat", quietStream{true, 75 * second, 75 * second, nil, 75 * second}, errLate, Warning, "no heartbeat came", ""},
		{"nothing came", quietStream{false, 75 * second, 75 * second, nil, 75 * second}, errLate, Skipped, "nothing of it came", ""},
		{"cut when idle", quietStream{true, 10 * second, 10 * second, nil, 75 * second}, io.ErrUnexpectedEOF, Problem, "was cut after 10s without a byte", fixIdle},
		{"ended when idle", quietStream{true, 10 * second, 10 * second, nil, 75 * second}, io.EOF, Problem, "was ended after 10s without a byte", fixIdle},
		{"cut when old", quietStream{true, 30 * second, 1 * second, []time.Duration{15 * second}, 75 * second}, io.ErrUnexpectedEOF, Problem, "its whole time is limited", fixLifetime},
		{"cut when idle, later", quietStream{true, 60 * second, 20 * second, []time.Duration{15 * second}, 75 * second}, io.ErrUnexpectedEOF, Problem, "after 20s without a byte", fixIdle},
	} {
		if got := judgeIdle(tt.s, tt.err); got.Level != tt.level || !strings.Contains(got.Saw, tt.saw) || got.kind != tt.kind {
			t.Errorf("%s: %+v", tt.name, got)
		}
	}
}

func TestTokensAreJudgedByTheirTimes(t *testing.T) {
	now := time.Now().Unix()
	for _, tt := range []struct {
		name, claims string
		level        Level
		saw          string
	}{
		{"expired", fmt.Sprintf(`{"exp":%d}`, now-100), Problem, "it expired"},
		{"not yet", fmt.Sprintf(`{"nbf":%d}`, now+100), Problem, "it is valid only in"},
		{"soon", fmt.Sprintf(`{"exp":%d}`, now+100), Warning, "it expires in"},
		{"valid", fmt.Sprintf(`{"exp":%d}`, now+10_000), OK, "it is valid for"},
		{"for ever", `{}`, Note, "it never expires"},
		{"far off", `{"exp":1e300}`, OK, "it is valid for"},
		{"no JSON", `x`, "", ""},
	} {
		x := exam{Config: Config{Token: "e30." + base64.RawURLEncoding.EncodeToString([]byte(tt.claims)) + ".sig"}, report: &Report{}}
		x.token()
		switch {
		case tt.level == "" && len(x.report.Findings) > 0, tt.level != "" && len(x.report.Findings) != 1:
			t.Errorf("%s: %+v", tt.name, x.report.Findings)
		case tt.level != "" && (x.report.Findings[0].Level != tt.level || !strings.Contains(x.report.Findings[0].Saw, tt.saw)):
			t.Errorf("%s: %+v", tt.name, x.report.Findings)
		}
	}
}

func TestClocksAreCompared(t *testing.T) {
	for _, tt := range []struct {
		name      string
		date, ids time.Duration
		want      []Level
	}{
		{"both right", 0, 0, []Level{OK}},
		{"a proxy is wrong", -time.Hour, 0, []Level{Problem, OK}},
		{"the hub is wrong", 0, 20 * time.Second, []Level{Warning, OK}},
		{"both are wrong", time.Hour, time.Hour, []Level{Problem, Problem}},
	} {
		x := exam{report: &Report{}, skew: &tt.ids}
		x.head = answer{Response: &http.Response{Header: http.Header{}}, begun: time.Now()}
		x.head.Header.Set("Date", time.Now().Add(tt.date).UTC().Format(http.TimeFormat))
		x.clock()
		var got []Level
		for _, f := range x.report.Findings {
			got = append(got, f.Level)
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("%s: %+v", tt.name, x.report.Findings)
		}
	}
}

// What a server sends must not move the cursor of a terminal, nor fill it.
func TestTextOfAServerIsMadeFitForATerminal(t *testing.T) {
	if got := clip("a\x1b[2Jb\x00\u009bc\xffd\n" + strings.Repeat("é", 400)); strings.ContainsAny(got, "\x1b\x00\u009b\n") || !utf8.ValidString(got) || len([]rune(got)) > 301 {
		t.Errorf("%q", got)
	}
}

func TestURLsThatCannotBeMeantAreRefused(t *testing.T) {
	for url, want := range map[string]string{
		"example.com/live/":     "has no scheme",
		"ftp://example.com/":    "http or https, not ftp",
		"http:///live/":         "has no host",
		"http://u:p@example/":   "a user and a password",
		"http://example/#there": "has a fragment",
		"http://[::1":           "missing ']'",
	} {
		if _, err := parseURL(url); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", url, err)
		}
	}
	for _, origin := range []string{"app.example", "https://app.example/", "https://app.example/x", "ws://a", "https://"} {
		if parseOrigin(origin) == nil {
			t.Errorf("the origin %s is taken", origin)
		}
	}
	if err := parseOrigin("https://app.example:8443"); err != nil {
		t.Error(err)
	}
}

func TestTheReportIsWrittenForPeople(t *testing.T) {
	r := Report{Findings: []Finding{}}
	r.add(Finding{Check: "idle", Level: Problem, Saw: "it was cut", Effect: "readers come back", Fix: []Fix{{nginx, "mend it"}}})
	r.add(Finding{Check: "hub", Level: OK, Saw: "evstream"})
	r.add(Finding{Check: "http", Level: Warning, Saw: "old"})
	r.add(Finding{Check: "cors", Level: Skipped, Saw: "pages"})
	r.sort()
	var b strings.Builder
	if err := r.print(&b, term.Painter{}); err != nil {
		t.Fatal(err)
	}
	const want = "✓ hub            evstream\n" +
		"! http           old\n" +
		"· cors           not checked: pages\n" +
		"✗ idle           it was cut\n" +
		"                 Readers come back.\n" +
		"                 → nginx: mend it\n" +
		"1 problem, 1 warning\n"
	if b.String() != want {
		t.Errorf("got\n%s\nwant\n%s", b.String(), want)
	}
	if got := (&Report{Warnings: 2}).summary(); got != "no problem, 2 warnings" {
		t.Error(got)
	}
}

func TestTheEndOfAStreamIsNamed(t *testing.T) {
	for err, want := range map[error]string{io.EOF: "properly", io.ErrUnexpectedEOF: "cut", errors.New("reset"): "cut (reset)"} {
		if got := ending(err); got != want {
			t.Errorf("%v: %s", err, got)
		}
	}
}
