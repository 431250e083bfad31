package doctor

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/evstream/caddy-evstream/cli"
)

// Config says what is looked at, and how patiently.
type Config struct {
	URL     string
	Token   string
	Channel string // default: a random one
	Origin  string // of a page, for CORS; default: not checked
	CACert  string // a file of certificates that are trusted instead of the system's

	Idle    time.Duration // how long a quiet stream is watched; 0: not at all
	Timeout time.Duration // for an answer
	Late    time.Duration // an event that has not come by then is held back
}

// exam is the examination of one URL.
type exam struct {
	Config
	report  *Report
	peer    *peer
	client  *http.Client // keeps its connections
	fresh   *http.Client // does not
	mount   *url.URL     // ends in /
	channel string
	// withheld says why the token that was given is not sent, if it is not.
	withheld string
	hub      bool // it is evstream
	publish  bool // it may be published to the channel
	head     answer
	flows    bool           // events of a stream arrive as they are published
	split    bool           // there are nodes that do not share a log
	skew     *time.Duration // how far the clock of the hub is ahead; nil if not known
}

// errUnreachable is the error of Examine if nothing could be looked at.
var errUnreachable = errors.New("cannot be examined")

// Examine looks at the hub of c.URL. The error says why nothing could be looked at, or
// what is wrong with c.
func Examine(ctx context.Context, c Config, progress func(what string)) (*Report, error) {
	u, err := parseURL(c.URL)
	if err != nil {
		return nil, err
	}
	if c.Origin != "" {
		if err := parseOrigin(c.Origin); err != nil {
			return nil, err
		}
	}
	roots, err := cli.Roots(c.CACert)
	if err != nil {
		return nil, err
	}
	p := &peer{host: u.Hostname(), roots: roots}
	x := &exam{
		Config: c, report: &Report{URL: c.URL, Through: []string{}, Findings: []Finding{}}, peer: p,
		client: newClient(p, c.Timeout, false), fresh: newClient(p, c.Timeout, true),
	}
	defer func() {
		x.client.CloseIdleConnections()
		x.fresh.CloseIdleConnections()
	}()
	progress("asking " + u.Host)
	defer progress("")
	if u, err = x.reach(ctx, u); err != nil {
		return nil, err
	}
	x.certificate()
	if err := x.find(ctx, u); err != nil {
		return nil, err
	}

	// The quiet stream is watched while all else is looked at.
	idle := make(chan watched, 1)
	watch, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() { idle <- x.idle(watch) }()

	progress("publishing and reading")
	x.http()
	x.clock()
	x.token()
	x.resume(ctx)
	x.delivery(ctx)
	x.compression(ctx)
	x.requestBody(ctx)
	x.cors(ctx)
	x.clean(ctx)
	if c.Idle > 0 {
		progress(watching)
	}
	w := <-idle
	if w.kind != "" {
		w.Fix = fixes(w.kind, x.report.Through)
	}
	x.report.add(w.Finding)
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	x.report.sort()
	return x.report, nil
}

func (x *exam) found(check string, level Level, saw string, args ...any) *Finding {
	x.report.add(Finding{Check: check, Level: level, Saw: fmt.Sprintf(saw, args...)})
	return &x.report.Findings[len(x.report.Findings)-1]
}

// because adds to a finding what it does, and what to change.
func (x *exam) because(f *Finding, kind, effect string) {
	f.Effect = effect
	f.Fix = fixes(kind, x.report.Through)
}

// at returns the URL of a channel, or of another name beneath the mount.
func (x *exam) at(name, query string) string {
	u := *x.mount
	u.Path += name
	u.RawQuery = query
	return u.String()
}

// request makes one with the token.
func (x *exam) request(method, to string, body io.Reader) *http.Request {
	req, err := http.NewRequest(method, to, body) //nolint:noctx // ask and read give it one
	if err != nil {
		panic(err) // the URL was parsed before
	}
	req.Header.Set("User-Agent", "evstream-doctor")
	if x.Token != "" {
		req.Header.Set("Authorization", "Bearer "+x.Token)
	}
	return req
}

// stream asks for a stream of the channel.
func (x *exam) stream(ctx context.Context, query string, header ...string) *reading {
	req := x.request(http.MethodGet, x.at(x.channel, query), nil)
	if !x.hub {
		req = x.request(http.MethodGet, x.mount.String(), nil)
	}
	req.Header.Set("Accept", "text/event-stream")
	req.Header.Set("Cache-Control", "no-cache") // as EventSource does
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	return read(ctx, x.client, req)
}

// send publishes data, and returns the event's id.
func (x *exam) send(ctx context.Context, data []byte) (id string, took time.Duration, err error) {
	req := x.request(http.MethodPost, x.at(x.channel, "event=doctor"), bytes.NewReader(data))
	req.Header.Set("Content-Type", "text/plain")
	a, err := ask(ctx, x.client, req, x.Timeout)
	if err != nil {
		return "", 0, err
	}
	if a.StatusCode != http.StatusOK {
		return "", 0, refused(a)
	}
	x.recognise(a.Header)
	var published struct{ ID string }
	if err := json.Unmarshal(a.body, &published); err != nil || published.ID == "" {
		return "", 0, fmt.Errorf("publishing is answered %d, but without an id", a.StatusCode)
	}
	x.idClock(published.ID, a.begun, a.begun.Add(a.took))
	return published.ID, a.took, nil
}

// refusal is the error of an answer that is no success.
type refusal struct {
	status int
	detail string
}

func (e *refusal) Error() string {
	text := fmt.Sprintf("%d %s", e.status, http.StatusText(e.status))
	if e.detail != "" {
		text += ": " + e.detail
	}
	return text
}

func refused(a answer) error {
	var p struct{ Title, Detail string }
	_ = json.Unmarshal(a.body, &p) // of a proxy, it may be a page
	detail := p.Detail
	if detail == "" {
		detail = p.Title
	}
	return &refusal{a.StatusCode, clip(detail)}
}

// clip makes text of a server fit for a line of a terminal.
func clip(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7F || r >= 0x80 && r < 0xA0 {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
	if r := []rune(s); len(r) > 300 {
		s = string(r[:300]) + "…"
	}
	return s
}

// random returns a name that nobody else has.
func random() string {
	var b [8]byte
	_, _ = rand.Read(b[:]) // it cannot fail
	return hex.EncodeToString(b[:])
}

// noise is text that cannot be compressed to less than half.
func noise(size int) []byte {
	b := make([]byte, size/2)
	_, _ = rand.Read(b) // it cannot fail
	return hex.AppendEncode(nil, b)
}

// short writes a duration for people.
func short(d time.Duration) string {
	switch {
	case d < 10*time.Millisecond:
		return d.Round(100 * time.Microsecond).String()
	case d < time.Second:
		return d.Round(time.Millisecond).String()
	case d < time.Minute:
		return d.Round(100 * time.Millisecond).String()
	}
	return d.Round(time.Second).String()
}
