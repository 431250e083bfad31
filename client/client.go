package client

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Options are the settings of a Client. The zero Options are good: no credential, and
// the defaults below.
type Options struct {
	// Credential returns what requests are authenticated with, see [Token]. It is called
	// when a request first needs one, again when the last one has expired or was refused,
	// and never by two goroutines at a time. Nil is none.
	Credential CredentialFunc

	// HTTP sends the requests. It must have no Timeout, which would cut streams. By
	// default it is a client of this Client's own, with the proxy of the environment.
	HTTP *http.Client

	// Attempts is how often a write or a read that fails for a while is tried in all.
	// Default: 4; 1 tries once.
	Attempts int

	// Timeout bounds one attempt of a request that is not a stream. Default: 30s.
	Timeout time.Duration

	// MinBackoff and MaxBackoff bound how long is waited between attempts, and before a
	// Subscription comes back where the hub does not say when. The wait doubles with
	// each attempt that fails, with jitter. What a hub asks for with Retry-After is
	// waited, up to five minutes. Defaults: 500ms and 30s.
	MinBackoff, MaxBackoff time.Duration

	// NoKeys leaves out the idempotency keys that writes get by themselves. A write
	// without one is tried again only where it is certain that it was not done. The
	// hub remembers each key for five minutes, and about a million of them in all: a
	// program that writes thousands of single events a second sets NoKeys, or publishes
	// with [Client.PublishLines].
	NoKeys bool
}

// Client speaks to one hub at one mount. Its methods are safe for concurrent use.
type Client struct {
	base  url.URL // its path ends in "/"
	http  *http.Client
	owned bool // http is this Client's own
	opts  Options
	creds credentials
}

// New returns a client of the hub that is mounted at a URL, such as
// https://example.com/live or, for Caddy's admin endpoint,
// http://localhost:2019/evstream. Its query is sent with each request:
// ?broker=chat selects a broker there. Nothing is sent yet.
func New(mount string, o Options) (*Client, error) {
	u, err := url.Parse(mount)
	if err != nil {
		if e, ok := errors.AsType[*url.Error](err); ok {
			err = e.Err // the URL may have a password
		}
		return nil, fmt.Errorf("the URL of the hub: %w", err)
	}
	switch {
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, fmt.Errorf("the URL of a hub is such as https://example.com/live, not %q", u.Redacted())
	case u.Host == "":
		return nil, fmt.Errorf("the URL %q has no host", u.Redacted())
	case u.Fragment != "":
		return nil, fmt.Errorf("the URL %q has a fragment, which is not sent to a server", u.Redacted())
	case u.User != nil && o.Credential != nil:
		return nil, errors.New("the URL has a user, and Options a credential: only one of both can be sent")
	case o.Attempts < 0 || o.Timeout < 0 || o.MinBackoff < 0 || o.MaxBackoff < 0:
		return nil, errors.New("options: Attempts, Timeout, MinBackoff and MaxBackoff are not negative")
	case o.HTTP != nil && o.HTTP.Timeout != 0:
		return nil, errors.New("options: HTTP has a Timeout, which would cut streams; Options.Timeout bounds other requests")
	}
	o.Attempts = cmp.Or(o.Attempts, 4)
	o.Timeout = cmp.Or(o.Timeout, 30*time.Second)
	o.MinBackoff = cmp.Or(o.MinBackoff, 500*time.Millisecond)
	o.MaxBackoff = max(cmp.Or(o.MaxBackoff, 30*time.Second), o.MinBackoff)
	c := &Client{base: *u, http: o.HTTP, opts: o, creds: newCredentials(o.Credential)}
	c.base.Path, c.base.RawPath = strings.TrimSuffix(c.base.Path, "/")+"/", ""
	if t, ok := http.DefaultTransport.(*http.Transport); c.http == nil && ok {
		t = t.Clone()
		t.MaxIdleConnsPerHost = 16 // publishers share them
		c.http, c.owned = &http.Client{Transport: t}, true
	} else if c.http == nil { // the program has another one, such as for traces
		c.http = &http.Client{}
	}
	return c, nil
}

// Close closes the connections that no request uses. Subscriptions are closed by
// themselves, or by their contexts.
func (c *Client) Close() {
	if c.owned {
		c.http.CloseIdleConnections()
	}
}

// url is that of a resource beneath the mount: an escaped path, and a query beside that
// of the mount.
func (c *Client) url(path string, query url.Values) *url.URL {
	u := c.base
	u.RawPath = u.EscapedPath() + path
	u.Path, _ = url.PathUnescape(u.RawPath)
	if len(query) > 0 {
		if u.RawQuery != "" {
			u.RawQuery += "&"
		}
		u.RawQuery += query.Encode()
	}
	return &u
}

// escape escapes the name of a channel for a path.
func escape(name string) string {
	segments := strings.Split(name, "/")
	for i := range segments {
		segments[i] = url.PathEscape(segments[i])
	}
	return strings.Join(segments, "/")
}

// channelPath is the path of a channel. A name that would not lead to a channel is
// refused here, because a server might clean the path.
func channelPath(name string) (string, error) {
	if name == "" {
		return "", errors.New("the channel's name is empty")
	}
	if strings.HasPrefix(name, "_") {
		return "", fmt.Errorf("the channel %q: names that begin with _ belong to the hub", name)
	}
	for segment := range strings.SplitSeq(strings.TrimSuffix(name, "/"), "/") {
		if segment == "" || segment == "." || segment == ".." {
			return "", fmt.Errorf("the channel %q has a segment %q, which no channel has", name, segment)
		}
	}
	return escape(name), nil
}
