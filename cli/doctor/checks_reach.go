package doctor

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// reach follows redirects from u, without the token, and returns where they end. It
// also gets what every answer shows: versions, certificate, clock, proxies.
func (x *exam) reach(ctx context.Context, u *url.URL) (*url.URL, error) {
	token := x.Token
	x.Token = ""
	first := *u
	for hop := 0; ; hop++ {
		req := x.request(http.MethodHead, u.String(), nil)
		req.Header.Set("Accept", "text/event-stream")
		// Some servers treat HEAD as GET, and go on for ever: the connection is of no use then.
		a, err := ask(ctx, x.fresh, req, x.Timeout)
		if err != nil {
			return nil, fmt.Errorf("%s %w: %w", u.Redacted(), errUnreachable, err)
		}
		x.head = a
		x.recognise(a.Header)
		location := a.Header.Get("Location")
		if a.StatusCode < 300 || a.StatusCode > 399 || location == "" {
			break
		}
		next, err := u.Parse(location)
		if err != nil || next.Scheme != "http" && next.Scheme != "https" {
			return nil, fmt.Errorf("%s %w: it redirects to %q", u.Redacted(), errUnreachable, clip(location))
		}
		if hop == 5 {
			return nil, fmt.Errorf("%s %w: more than 5 redirects, the last to %s", first.Redacted(), errUnreachable, next.Redacted())
		}
		if next.Host != u.Host || next.Scheme != u.Scheme || strings.TrimSuffix(next.Path, "/") != strings.TrimSuffix(u.Path, "/") {
			f := x.found("redirect", Warning, "%s is redirected (%d) to %s", clip(u.Redacted()), a.StatusCode, clip(next.Redacted()))
			f.Effect = "each connection and reconnection of a reader takes one more round trip; a POST that is redirected with 301 or 302 becomes a GET; fetch sends no token to another origin"
			f.Fix = []Fix{{"the page", "use the last URL at once"}}
		}
		if next.Scheme != u.Scheme || next.Host != u.Host {
			x.client.CloseIdleConnections()
			x.peer = &peer{host: next.Hostname(), roots: x.peer.roots}
			x.client, x.fresh = newClient(x.peer, x.Timeout, false), newClient(x.peer, x.Timeout, true)
		}
		u = next
	}
	if token != "" && u.Hostname() != first.Hostname() {
		x.found("redirect", Note, "the token was not sent on to %s: name that URL to send it there", u.Host)
		x.withheld = fmt.Sprintf("the token was not sent, since %s redirects to %s: name that URL to send it there", first.Host, u.Host)
		token = ""
	}
	x.Token = token
	return u, nil
}

// recognise remembers the proxies of an answer.
func (x *exam) recognise(h http.Header) {
	for _, name := range recognise(h) {
		if !slices.Contains(x.report.Through, name) {
			x.report.Through = append(x.report.Through, name)
		}
	}
}

// certificate judges what TLS has shown. Without trust the token is not sent.
func (x *exam) certificate() {
	cs, ok, reason := x.peer.seen()
	if !ok {
		return // not HTTPS
	}
	leaf := cs.PeerCertificates[0]
	left := time.Until(leaf.NotAfter)
	const effect = "browsers and other clients refuse to connect"
	var invalid x509.CertificateInvalidError
	var hostname x509.HostnameError
	var unknown x509.UnknownAuthorityError
	switch {
	case reason == nil && left < min(leaf.NotAfter.Sub(leaf.NotBefore)/6, 14*24*time.Hour):
		f := x.found("certificate", Warning, "it ends in %s, on %s", days(left), leaf.NotAfter.Format(time.DateOnly))
		x.because(f, fixCertificate, "after that "+effect)
		return
	case reason == nil:
		x.found("certificate", OK, "for %s, trusted, for %s more", x.peer.host, days(left))
		return
	case errors.As(reason, &invalid) && invalid.Reason == x509.Expired && time.Now().After(leaf.NotAfter):
		f := x.found("certificate", Problem, "it has ended on %s", leaf.NotAfter.Format(time.DateOnly))
		x.because(f, fixCertificate, effect)
	case errors.As(reason, &invalid) && invalid.Reason == x509.Expired:
		f := x.found("certificate", Problem, "it begins on %s, or the clock of this machine is wrong", leaf.NotBefore.Format(time.DateTime))
		x.because(f, fixCertificate, effect)
	case errors.As(reason, &hostname):
		f := x.found("certificate", Problem, "it is not for %s, but for %s", x.peer.host, clip(strings.Join(leaf.DNSNames, " ")))
		x.because(f, fixCertificate, effect)
	case errors.As(reason, &unknown) && len(cs.PeerCertificates) == 1 && string(leaf.RawIssuer) != string(leaf.RawSubject):
		f := x.found("certificate", Problem, "the intermediate certificates are missing: it was signed by %q, which the server does not send", clip(leaf.Issuer.CommonName))
		x.because(f, fixChain, "browsers may find them elsewhere; curl, Node, Go, Python and phones refuse to connect")
	default:
		f := x.found("certificate", Problem, "it is not trusted: %s", clip(reason.Error()))
		x.because(f, fixCertificate, effect)
	}
	if x.Token != "" {
		x.Token = ""
		x.withheld = fmt.Sprintf("the token was not sent, since the certificate is not trusted: %s; --cacert names other roots", clip(reason.Error()))
		x.found("certificate", Note, "so the token was not sent, and what follows was looked at without it; --cacert names other roots")
	}
}

// days writes a long duration for people.
func days(d time.Duration) string {
	switch {
	case d < time.Minute:
		return d.Round(time.Second).String()
	case d < 2*time.Hour:
		return fmt.Sprintf("%d minutes", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%d hours", int(d.Hours()))
	}
	return fmt.Sprintf("%d days", int(d.Hours()/24))
}

// find finds out whether u is a hub, its mount and the channel to use.
func (x *exam) find(ctx context.Context, u *url.URL) error {
	x.mount, x.hub = u, true
	x.channel = x.Channel
	if x.channel == "" {
		x.channel = "doctor-" + random()
	}
	if !strings.HasSuffix(u.Path, "/") {
		if err := x.findMount(ctx, u); err != nil {
			return err
		}
	}
	if x.hub {
		query := x.mount.RawQuery
		x.mount = &url.URL{Scheme: u.Scheme, Host: u.Host, Path: x.mount.Path}
		// An answer to a poll arrives whatever happens to streams.
		a, err := ask(ctx, x.client, x.request(http.MethodGet, x.at(x.channel, "poll=1"), nil), x.Timeout)
		var poll struct {
			LastEventID *string `json:"last_event_id"`
		}
		switch {
		case err != nil:
			return fmt.Errorf("%s %w: %w", x.at(x.channel, ""), errUnreachable, err)
		case a.StatusCode == http.StatusOK && json.Unmarshal(a.body, &poll) == nil && poll.LastEventID != nil:
		case strings.Contains(string(a.body), "urn:evstream:problem:"):
			return fmt.Errorf("%s %w: the hub answers %w%s", x.at(x.channel, ""), errUnreachable, refused(a), x.advice(a.StatusCode))
		default:
			x.hub = false
			if a.StatusCode >= 400 && !streams(x.head.Header) {
				return fmt.Errorf("%s %w: it answers %w, and not as an evstream hub does%s", x.at(x.channel, ""), errUnreachable, refused(a), x.advice(a.StatusCode))
			}
		}
		if x.hub && query != "" {
			return errors.New("the URL of an evstream hub goes without its query: --channel names a channel, EVSTREAM_TOKEN has the token")
		}
		x.recognise(a.Header)
	}
	if !x.hub {
		x.mount = u
		x.channel = ""
		if !streams(x.head.Header) {
			return fmt.Errorf("%s %w: it answers %d with %q, which is no event stream: the URL is that of the handler, such as https://example.com/live/, or of a channel",
				u.Redacted(), errUnreachable, x.head.StatusCode, clip(x.head.Header.Get("Content-Type")))
		}
		x.found("hub", Note, "it streams events, but is not evstream: only what every stream shows is looked at")
		return nil
	}
	x.report.Channel = x.channel
	_, _, err := x.send(ctx, []byte("evstream doctor"))
	x.publish = err == nil
	level, how := OK, "published to"
	if err != nil {
		level, how = Note, fmt.Sprintf("only read, since publishing is answered %s;", clip(err.Error()))
	}
	through := ""
	if len(x.report.Through) > 0 {
		through = ", through " + strings.Join(x.report.Through, " and ")
	}
	x.found("hub", level, "evstream at %s%s; %s the channel %s", x.mount.Redacted(), through, how, x.channel)
	return nil
}

// findMount finds the mount of a channel's URL: the shortest beginning of its path
// beneath which _publish is the hub's, which refuses a GET. Deeper it is a channel.
func (x *exam) findMount(ctx context.Context, u *url.URL) error {
	for i, c := range u.Path {
		if c != '/' || strings.Count(u.Path[:i], "/") > 16 {
			continue
		}
		mount := &url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path[:i+1]}
		req := x.request(http.MethodGet, mount.String()+"_publish", nil)
		req.Header.Set("Accept", "application/json")
		a, err := ask(ctx, x.client, req, x.Timeout)
		if err != nil {
			return fmt.Errorf("%s %w: %w", req.URL.Redacted(), errUnreachable, err)
		}
		if a.StatusCode != http.StatusMethodNotAllowed || !strings.Contains(string(a.body), "urn:evstream:problem:") {
			continue
		}
		x.mount = mount
		if x.Channel == "" && !x.mayRead(ctx) {
			x.channel = u.Path[i+1:]
		}
		return nil
	}
	x.hub = false
	return nil
}

// mayRead reports whether the random channel can be read.
func (x *exam) mayRead(ctx context.Context) bool {
	a, err := ask(ctx, x.client, x.request(http.MethodGet, x.at(x.channel, "poll=1"), nil), x.Timeout)
	return err == nil && a.StatusCode == http.StatusOK
}

// advice says what may help after a refusal.
func (x *exam) advice(status int) string {
	switch {
	case status == http.StatusUnauthorized && x.withheld != "":
		return "; " + x.withheld
	case status == http.StatusUnauthorized && x.Token == "":
		return "; a token goes into EVSTREAM_TOKEN"
	case status == http.StatusUnauthorized:
		return "; the token is not accepted"
	case status == http.StatusForbidden:
		return "; --channel names one that may be read"
	}
	return ""
}

// streams reports whether a header is that of an event stream.
func streams(h http.Header) bool {
	typ, _, err := mime.ParseMediaType(h.Get("Content-Type"))
	return err == nil && typ == "text/event-stream"
}

// http judges the version of HTTP.
func (x *exam) http() {
	proto := x.head.Proto
	also := ""
	if strings.Contains(x.head.Header.Get("Alt-Svc"), "h3") {
		also = ", HTTP/3 offered"
	}
	const six = "over HTTP/1.1 a browser has six connections to a site, all tabs together: the seventh stream, and each request after it, waits for ever"
	switch {
	case x.head.ProtoMajor == 1 && x.head.ProtoMinor == 0:
		f := x.found("http", Problem, "the answer is %s", proto)
		x.because(f, fixHTTP10, "a reader cannot tell a crash from the end of a stream, and each request needs a connection")
	case x.head.ProtoMajor >= 2:
		x.found("http", OK, "%s%s", proto, also)
	case x.mount.Scheme == "http" && local(x.mount.Hostname()):
		x.found("http", OK, "%s, as without HTTPS on this machine", proto)
	case x.mount.Scheme == "http":
		f := x.found("http", Warning, "%s without HTTPS: browsers speak HTTP/2 over HTTPS only", proto)
		x.because(f, fixHTTP2, six+"; and anybody in between can read events and tokens")
	default:
		f := x.found("http", Warning, "%s: the server offers no HTTP/2%s", proto, also)
		x.because(f, fixHTTP2, six)
	}
}
