package evstream

import (
	"encoding/json"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// App is the Caddy app "evstream": the brokers that handlers share. A site
// that is content with the defaults needs no app of its own.
type App struct {
	// The brokers by name. A handler that names none uses "default", which
	// exists without being declared.
	Brokers map[string]*BrokerConfig `json:"brokers,omitempty"`

	appState
}

// BrokerConfig is one broker: a log, and what is kept of it.
type BrokerConfig struct {
	// What orders and keeps the events, a module of the namespace
	// evstream.adapters. Default: {"name": "memory"}, which needs no service
	// and forgets everything when the process ends.
	AdapterRaw json.RawMessage `json:"adapter,omitempty" caddy:"namespace=evstream.adapters inline_key=name"`

	// What a channel keeps for readers that come back. Default: 1000 events,
	// 1h and 16 MiB a channel.
	History *History `json:"history,omitempty"`

	// Channels with settings of their own. The first pattern that matches a
	// channel's name decides.
	Channels []ChannelConfig `json:"channels,omitempty"`

	// The memory that all histories may take together, in bytes, on each node.
	// Over it the largest channel yields its oldest events first. Default: 256 MiB.
	MaxHistory Limit `json:"max_history,omitempty"`

	// How many streams the broker serves at a time, on each node. Default: 50000.
	MaxConnections Limit `json:"max_connections,omitempty"`

	// How many streams one client address may hold at a time on each node, as
	// Caddy's {client_ip} tells it. Loopback addresses are not counted: behind a proxy
	// on the same host that is not trusted they would all be one. Default: 200.
	MaxConnectionsPerIP Limit `json:"max_connections_per_ip,omitempty"`

	// How many channels are held in memory, on each node. Over it, the channel
	// without readers that was published to longest ago yields. Default: 100000.
	MaxChannels Limit `json:"max_channels,omitempty"`

	// How many readers a channel may have, on each node. Default: unlimited.
	MaxSubscribers Limit `json:"max_subscribers,omitempty"`

	// How many different wildcard patterns may be read at a time, on each node.
	// Default: 1000.
	MaxPatterns Limit `json:"max_patterns,omitempty"`

	// How many channels and patterns one stream may read. Default: 100.
	MaxSessionChannels Limit `json:"max_session_channels,omitempty"`

	// How many of them may be wildcard patterns. Each is matched against all
	// channels when it begins to be read. Default: 10.
	MaxSessionPatterns Limit `json:"max_session_patterns,omitempty"`

	// How many streams one user may hold at a time on each node, whatever their
	// addresses. Named bearers are no users. Default: unlimited.
	MaxConnectionsPerUser Limit `json:"max_connections_per_user,omitempty"`

	// How many streams and polls one client address may begin a second on each
	// node, as Caddy's {client_ip} tells it; loopback addresses are not counted. Of IPv6
	// a /64 network is one address. Default: {"per_second": 100, "burst": 200}.
	ConnectRate Rate `json:"connect_rate,omitzero"`

	// How many events a second one caller may publish on each node: a user or a
	// named bearer, or else whoever has the client's address. The admin endpoint is not
	// counted. Default: "unlimited".
	PublishRate Rate `json:"publish_rate,omitzero"`

	// How many bytes of events' data a second one caller may publish on each
	// node. What is larger than the burst is taken when the caller has published nothing for
	// long enough, and paid for by the time after it. Default: "unlimited".
	PublishBytes Rate `json:"publish_bytes,omitzero"`

	// The size of one event's data, in bytes. Default: 256 KiB.
	MaxEvent Limit `json:"max_event,omitempty"`

	// How many channels may have a value, on all nodes together: nodes that share
	// a log need the same bound. Over it, a value of one more channel is refused;
	// nothing yields. Default: 100000.
	MaxStates Limit `json:"max_states,omitempty"`

	// The size of all values and the names of their channels, in bytes, on all
	// nodes together. Over it, a write that adds to it is refused; nothing yields.
	// Default: 64 MiB.
	MaxStateBytes Limit `json:"max_state_bytes,omitempty"`
}

// History bounds what a channel keeps. What breaks any bound leaves, oldest
// first, and a reader that needed it is told.
type History struct {
	// Keep nothing: readers get what happens while they are connected.
	Off bool `json:"off,omitempty"`
	// How many events are kept. Default: 1000.
	Events Limit `json:"events,omitempty"`
	// How old an event may get. Default: 1h; -1 is unlimited.
	Age caddy.Duration `json:"age,omitempty"`
	// How much memory a channel's events may take, in bytes. Default: 16 MiB.
	Bytes Limit `json:"bytes,omitempty"`
}

// ChannelConfig gives the channels that match a pattern settings of their own.
type ChannelConfig struct {
	// Which channels: "*" stands for any part of a segment, a final "/**" for
	// the rest. Required.
	Pattern string `json:"pattern"`
	// What such a channel keeps. What is left out is as in the broker's history.
	History *History `json:"history,omitempty"`

	// Remove the channel's value this long after it was written last, as a
	// DELETE would; at least 1ms. Default: -1, never.
	StateTTL caddy.Duration `json:"state_ttl,omitempty"`

	// The name of the value in what subscribers are told: {"value":42}. At most
	// 64 bytes; "patch" and "deleted" mean something else. Default: "value".
	StateKey string `json:"state_key,omitempty"`

	// How subscribers are told of a change: "raw" is the whole value,
	// "merge-patch" (RFC 7396) and "json-patch" (RFC 6902) are what changed,
	// {"patch":…}, where that is shorter and the subscriber has what it was
	// computed from. Default: "raw".
	StateFormat string `json:"state_format,omitempty"`

	// The types of events that may be published; "message" is those without
	// one. Any other is refused. Default: any.
	EventTypes []string `json:"event_types,omitempty"`
	// The path of a file with a JSON Schema (2020-12) that the data of each
	// published event has to fit. It is read when the configuration is loaded,
	// and has to be whole in the file: nothing is fetched. Default: any data.
	Schema string `json:"schema,omitempty"`
}

// Handler is the HTTP handler "evstream": a channel is a URL. GET subscribes,
// POST publishes.
type Handler struct {
	// The path that channels lie beneath, without a final slash: with "/live",
	// the channel "match.7" is "/live/match.7". Requests for other paths are
	// passed on. Default: the site's root.
	Mount string `json:"mount,omitempty"`

	// The broker that is served. Default: "default".
	Broker string `json:"broker,omitempty"`

	// Who may do what. Nothing is allowed that no rule allows; a handler
	// without a rule is refused. Required.
	Allow []AllowRule `json:"allow,omitempty"`

	// Secrets by name, for "Authorization: Bearer <secret>". A value may be
	// {env.NAME} or {file./abs/path}; unset or empty is an error. The names
	// can stand in rules.
	Bearers map[string]string `json:"bearers,omitempty"`

	// Accept JSON Web Tokens, for "Authorization: Bearer <token>". Default: none.
	JWT *JWTConfig `json:"jwt,omitempty"`

	// The name of a cookie that has a JSON Web Token. A browser sends it with
	// every request to the site. It needs jwt. Default: none.
	Cookie string `json:"cookie,omitempty"`

	// The name of a query parameter that has a token, or the secret of a
	// bearer. URLs end up in logs and histories, so a warning is logged; a
	// ticket is safer. Default: none.
	InsecureQueryToken string `json:"insecure_query_token,omitempty"`

	// Give and accept tickets, for clients that cannot set headers. Default: no.
	Tickets *TicketsConfig `json:"tickets,omitempty"`

	// Believe the authentication of a handler in front, such as basic_auth:
	// the user is {http.auth.user.id}. Default: no.
	CaddyAuth bool `json:"caddy_auth,omitempty"`

	// Ask an application who makes a request. Default: nobody is asked.
	Verify *VerifyConfig `json:"verify,omitempty"`

	// Origins that browsers may call from, such as "https://example.com";
	// "https://*.example.com" is each that lies below that one, and "*" is any,
	// both without credentials. "*" beside credentials that browsers send
	// unasked is an error. Default: the same origin.
	CORS []string `json:"cors,omitempty"`

	// How long a stream is quiet before it gets a heartbeat, a comment line; at
	// least 1s, at most ten years. Default: 15s; -1 disables it.
	Heartbeat caddy.Duration `json:"heartbeat,omitempty"`

	// Send heartbeats as events named "heartbeat" instead of comments.
	HeartbeatEvent bool `json:"heartbeat_event,omitempty"`

	// The shortest time a client is told to wait before it reconnects. Each is
	// told a random time from here to retry_max. Default: 2s; at most 24h.
	RetryMin caddy.Duration `json:"retry_min,omitempty"`
	// The longest time a client is told to wait. Default: 5s; at most 24h.
	RetryMax caddy.Duration `json:"retry_max,omitempty"`

	// How long a write may be stalled before the stream is closed; for every
	// 128 KiB a slow client has that long; at most ten years. Default: 10s.
	WriteTimeout caddy.Duration `json:"write_timeout,omitempty"`

	// How long a stream may last, at most; each gets a random 80 to 100 % of
	// it, then reconnects without loss; at least 1s, at most ten years. Default:
	// -1, unlimited.
	MaxAge caddy.Duration `json:"max_age,omitempty"`

	// On shutdown, the time over which streams are ended. Bounded by the http
	// app's grace_period; at most ten years. Default: 5s.
	Drain caddy.Duration `json:"drain,omitempty"`

	// When the configuration is replaced, end its streams over this time, so that
	// they reconnect; at most ten years. Default: they live on, if the new rules
	// allow it.
	OnReloadDrain caddy.Duration `json:"on_reload_drain,omitempty"`

	// What a subscriber over a limit is answered: "retry" is status 200, a
	// time to wait and the end of the stream, after which an EventSource tries
	// again; "503" is that status, after which it never does. Default: "retry".
	OnOverload string `json:"on_overload,omitempty"`

	// How streams are written: "auto" detaches those that come over HTTP/1.1 in
	// the clear, on Linux: their connection is taken from the server, which
	// costs a tenth of the memory and less time. "attached" leaves all of them
	// with the server, for handlers in front that change the body of an answer.
	// Default: "auto".
	Delivery string `json:"delivery,omitempty"`

	// The size of a publish body, in bytes; of bodies that stream events, the
	// size of each. Default: 1 MiB.
	MaxBody Limit `json:"max_body,omitempty"`

	handlerState
}

// AllowRule allows somebody to do something with some channels.
type AllowRule struct {
	// "anyone", with or without credentials; "user", who is authenticated as a
	// user; the name of a bearer; "claim", who has the claim that is named
	// below; or "@name", whose request the matcher below matches. Required.
	Who string `json:"who"`
	// With "claim": its name, at the top level of the token's claims.
	Claim string `json:"claim,omitempty"`
	// With "claim": its value, which is a string, a number or a boolean as JSON
	// writes it, without quotes. Of a list it is one of the values.
	Value string `json:"value,omitempty"`
	// With "@name": which requests are meant, as in a route. Without a
	// condition it is an error.
	MatcherSetsRaw caddyhttp.RawMatcherSets `json:"match,omitempty" caddy:"namespace=http.matchers"`
	// "subscribe", "publish", "state", "presence", "session" or "all". Required.
	Do []string `json:"do"`
	// Patterns of channels. In them "{user}" and "{claims.<name>}" stand for a
	// whole segment each: the caller's user, and a claim that is a string or a
	// number. Where the caller has no such value, or it cannot be a segment of
	// a channel's name, the pattern takes in nothing. Required.
	Channels []string `json:"channels"`
}
