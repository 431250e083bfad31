package evstream

import (
	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// Handler is the HTTP handler "evstream": a channel is a URL. GET subscribes,
// POST publishes.
type Handler struct {
	// The path that channels lie beneath, without a final slash: with "/live",
	// the channel "match.7" is "/live/match.7". Requests for other paths are
	// passed on. Default: the site's root.
	Mount string `json:"mount,omitempty"`

	// Serve no channels, but the streams that the handler behind, such as
	// reverse_proxy, hands over by its answers. mount, allow and all that has to do with
	// credentials are errors beside it. Default: channels are served.
	Handoff *HandoffConfig `json:"handoff,omitempty"`

	// Record the event streams that the handler behind answers with. Rules say who may read
	// and stop them; channels are not served, and mount is an error beside it. Default:
	// nothing is recorded.
	Record *RecordConfig `json:"record,omitempty"`

	// Serve what is recorded. Rules say who may read it; as beside record, channels are
	// not served. Default: what is recorded is served only to requests for the same.
	Resume *ResumeConfig `json:"resume,omitempty"`

	// The name of the broker; it must be declared. Default: "default".
	Broker string `json:"broker,omitempty"`

	// The rules of who may do what. What no rule allows is refused. At least one
	// is required.
	Allow []AllowRule `json:"allow,omitempty"`

	// Secrets by name, for "Authorization: Bearer <secret>". A value may be
	// {env.NAME} or {file./abs/path}; unset or empty is an error. Rules can name
	// them. Default: none.
	Bearers map[string]string `json:"bearers,omitempty"`

	// Serve the operator's page at _console beneath the mount. What it shows takes a rule,
	// or a token's grant, that allows "console" for "**"; "all" does not. Default: false.
	Console bool `json:"console,omitempty"`

	// Accept JSON Web Tokens, for "Authorization: Bearer <token>". Default: none.
	JWT *JWTConfig `json:"jwt,omitempty"`

	// The name of a cookie that holds a JSON Web Token; needs jwt. Browsers send it
	// with every request to the site. Default: none.
	Cookie string `json:"cookie,omitempty"`

	// The name of a query parameter that holds a token or the secret of a bearer.
	// URLs end up in logs and browser histories, so a warning is logged; a ticket
	// is safer. Default: none.
	InsecureQueryToken string `json:"insecure_query_token,omitempty"`

	// Issue and accept tickets, for clients that cannot set headers. Default: none.
	Tickets *TicketsConfig `json:"tickets,omitempty"`

	// Trust the authentication of a handler in front, such as basic_auth: the
	// user is {http.auth.user.id}. A warning is logged beside a rule for anyone,
	// because that also holds for a request which the handler in front did not
	// see. Default: false.
	CaddyAuth bool `json:"caddy_auth,omitempty"`

	// Ask an application who makes a request. Default: none is asked.
	Verify *VerifyConfig `json:"verify,omitempty"`

	// Other origins whose pages may make requests: "https://example.com" with
	// credentials, "https://*.example.com" (any below it), "http://localhost:*" (any port), "null"
	// (pages without an origin, such as sandboxed ones) and "*" (any) without.
	// "*" beside cookie or caddy_auth is an error. Default: only the same origin.
	CORS []string `json:"cors,omitempty"`

	// Query parameters that are other handlers'. A parameter that has no meaning for a
	// request is refused, or listed in the opening event of a stream. "utm_*" is all
	// names that begin so; those that begin with "_" are always ignored. Default: none.
	IgnoreQuery []string `json:"ignore_query,omitempty"`

	// How long a stream is quiet before it gets a heartbeat, a comment line; at
	// least 1s, at most ten years. Default: 15s; -1 disables it.
	Heartbeat caddy.Duration `json:"heartbeat,omitempty"`

	// Send heartbeats as events named "heartbeat" instead of comments. Default:
	// false.
	HeartbeatEvent bool `json:"heartbeat_event,omitempty"`

	// The shortest time that a client is told to wait before it reconnects: each
	// gets a random time from retry_min to retry_max. From 1ms to 24h. Default:
	// 2s, or retry_max if that is less.
	RetryMin caddy.Duration `json:"retry_min,omitempty"`
	// The longest such time. From 1ms to 24h. Default: 5s, or retry_min if that
	// is more.
	RetryMax caddy.Duration `json:"retry_max,omitempty"`

	// How long a write may stall before the stream is closed; a slow client has
	// that long for every 128 KiB. The timeouts of the server do not shorten it. At
	// most ten years. Default: 10s.
	WriteTimeout caddy.Duration `json:"write_timeout,omitempty"`

	// How long a stream may last: each ends after a random 80 to 100 % of it, and
	// its client reconnects without loss. From 1s to ten years. Default: -1,
	// unlimited.
	MaxAge caddy.Duration `json:"max_age,omitempty"`

	// The time over which streams are ended on shutdown, or 10ms for each open stream if
	// that is less; at most the http app's grace_period, and ten years. Default: 5s.
	Drain caddy.Duration `json:"drain,omitempty"`

	// When the configuration is replaced, end its streams over this time, so that
	// clients reconnect; at most ten years. Default: streams stay open if the new
	// rules allow it.
	OnReloadDrain caddy.Duration `json:"on_reload_drain,omitempty"`

	// The answer to a subscriber over a limit: "retry" is status 200, a time to
	// wait and the end of the stream, after which an EventSource tries again;
	// "503" is that status, after which it does not. Default: "retry".
	OnOverload string `json:"on_overload,omitempty"`

	// How streams are written: "auto" takes them from the server, which needs less memory
	// and time: on Linux those over plain HTTP/1.1 (a tenth of the memory), over HTTP/1.1
	// and TLS (a third), and over HTTP/2 and TLS, up to eight of a connection (two fifths);
	// on every system those over HTTP/3 (six sevenths). Where that cannot be done they are
	// left with the server, and if it is because of how Caddy was built a line is logged.
	// "attached" leaves all with the server, for handlers in front that change the body of
	// a response. Default: "auto".
	Delivery string `json:"delivery,omitempty"`

	// The size of a publish body, in bytes; of a body that streams events, the
	// size of each event. Default: 1 MiB.
	MaxBody Limit `json:"max_body,omitempty"`

	// Where a Caddyfile declares the handler, for error messages. It is written by the
	// Caddyfile's adapter, and changes nothing. Default: none.
	Source *Source `json:"source,omitempty"`

	handlerState
}

// AllowRule allows some callers to do something with some channels.
type AllowRule struct {
	// "anyone", with or without credentials; "user", every authenticated user; the
	// name of a bearer; "claim", every caller with the claim below; or "@name",
	// every caller whose request the matcher below matches. Required.
	Who string `json:"who"`
	// With "claim": the name of a top-level claim. Required there, and an error elsewhere.
	Claim string `json:"claim,omitempty"`
	// With "claim": its value, or one of its values if it is a list: a string, a
	// number or a boolean as JSON writes it, without quotes. Required there, and an
	// error elsewhere.
	Value string `json:"value,omitempty"`
	// With "@name": matcher sets, as in a route. Required there, and an error elsewhere;
	// so is one without a condition.
	MatcherSetsRaw caddyhttp.RawMatcherSets `json:"match,omitempty" caddy:"namespace=http.matchers"`
	// Some of "subscribe", "publish", "purge", "state", "session", "presence" and "console",
	// or "all", which is all but "console". Required.
	Do []string `json:"do"`
	// Patterns of channels, in which "{user}" and "{claims.<name>}" each stand for
	// a whole segment: the caller's user, or a claim that is a string or a number.
	// If the caller has no such value, or it cannot be a segment of a channel's
	// name, the pattern matches nothing. Required.
	Channels []string `json:"channels"`
}

// JWTConfig says which JSON Web Tokens are accepted. A token's user is in the
// claim "sub"; the claim "evstream" may allow more than the rules do:
// {"subscribe": ["orders/17/**"]}.
type JWTConfig struct {
	// The keys that verify tokens; several, so that an old and a new key can
	// overlap. Keys or jwks are required.
	Keys []JWTKey `json:"keys,omitempty"`

	// The URL of a JSON Web Key Set, https only. It is fetched when a token
	// first needs it, at most once a minute, with at most 64 KiB and 64 keys;
	// keys are used for up to a day if no newer ones can be fetched. Default: none.
	JWKS string `json:"jwks,omitempty"`

	// Allow the URL of the JWKS to lead to private addresses, and to be http.
	// localhost and loopback addresses are always allowed. Default: false.
	AllowPrivate bool `json:"allow_private,omitempty"`

	// The algorithms that tokens may be signed with: HS256, HS384, HS512,
	// RS256 to RS512, PS256 to PS512, ES256 to ES512 and EdDSA. A key is only
	// used with algorithms of its own type. Default: those that the type of a key,
	// or the length of a secret, allows.
	Algorithms []string `json:"algorithms,omitempty"`

	// The claim "iss" that a token must have. Default: any, or none.
	Issuer string `json:"issuer,omitempty"`

	// Values of the claim "aud", of which a token must have one. Default: any, or
	// none.
	Audience []string `json:"audience,omitempty"`

	// How long an expired token is still accepted, for clocks that differ; at most
	// 10m. "nbf" and "iat" may always be 5s in the future. Default: 0.
	Leeway caddy.Duration `json:"leeway,omitempty"`

	// The claim that holds the user. Default: "sub".
	UserClaim string `json:"user_claim,omitempty"`

	// Accept tokens that do not expire. They are valid until their key is removed
	// or they are revoked. Default: false.
	InsecureNoExpiry bool `json:"insecure_no_expiry,omitempty"`
}

// JWTKey is one key that verifies tokens.
type JWTKey struct {
	// A public key or a certificate as PEM, a JSON Web Key, or else a secret of
	// at least 32 bytes. It may be {env.NAME} or {file./abs/path}; unset or
	// empty is an error. Required.
	Key string `json:"key"`
	// The key id. The key is not used for tokens that name another one. Default:
	// it is used for all tokens whose algorithm is of its type.
	ID string `json:"kid,omitempty"`
}

// TicketsConfig turns on tickets: POST to _tickets with any other credential
// returns a short-lived one for the query of a stream's URL, because an
// EventSource cannot set headers.
type TicketsConfig struct {
	// How long a ticket is valid for its first connect, from 1s to 1h. Default: 1m.
	Lifetime caddy.Duration `json:"lifetime,omitempty"`

	// Up to four secrets of at least 32 bytes, which may be {env.NAME} or
	// {file./abs/path}; unset or empty is an error. Tickets are made with the
	// first and accepted with any, so that an old and a new one can overlap.
	// Handlers and nodes with the same secret accept each other's tickets for the
	// same broker and mount. Default: a random key of this process, whose tickets
	// are valid only at the host that issued them.
	Keys []string `json:"keys,omitempty"`
}

// VerifyConfig names an application that is asked who makes a request, if the
// request has no other credential. An answer 2xx accepts the caller: its JSON
// body {"user", "claims", "event"} says who that is, as in a token, and what a
// stream begins with. 401 and 403 are passed on. On any other answer, or none in
// time, the request is refused with 503.
type VerifyConfig struct {
	// The URL, which is requested with GET: https, or http to this host or a
	// private address. X-Forwarded-Method and X-Forwarded-Uri hold the method and
	// the URI of the request. Required.
	URL string `json:"url"`

	// How long to wait for the answer, from 1ms to 1m. Default: 5s.
	Timeout caddy.Duration `json:"timeout,omitempty"`

	// How long an answer 2xx is reused, for requests that are equal in all that
	// the application is sent; at most 1h. Default: 0, not at all.
	Cache caddy.Duration `json:"cache,omitempty"`

	// The header fields that the application is sent. Default: all, except those
	// about the connection, the body and the cache.
	Forward []string `json:"forward,omitempty"`

	// Allow the URL's name to lead to private addresses. localhost, and an address
	// in the URL itself, are always allowed, Caddy's admin endpoint never.
	// Default: false.
	AllowPrivate bool `json:"allow_private,omitempty"`
}
