package evstream

import (
	"encoding/json"

	"github.com/caddyserver/caddy/v2"
)

// App is the Caddy app "evstream": the brokers that handlers share. It may be
// left out if the default broker is enough.
type App struct {
	// The brokers by name. A handler that names none uses "default", which
	// exists without being declared.
	Brokers map[string]*BrokerConfig `json:"brokers,omitempty"`

	appState
}

// BrokerConfig configures one broker: its log, histories and limits.
type BrokerConfig struct {
	// The log, which orders and keeps the events: a module of the namespace
	// evstream.adapters. Default: {"name": "memory"}, which needs no service
	// and forgets everything when the process ends.
	AdapterRaw json.RawMessage `json:"adapter,omitempty" caddy:"namespace=evstream.adapters inline_key=name"`

	// What each channel keeps for subscribers that reconnect. Default: 1000
	// events, 1h and 16 MiB.
	History *History `json:"history,omitempty"`

	// Settings of some channels. The first pattern that matches a channel's name
	// decides. Default: none.
	Channels []ChannelConfig `json:"channels,omitempty"`

	// The memory of all histories together, in bytes, on each node; at least 4 KiB.
	// Over it, the largest channel loses its oldest events. Default: 256 MiB.
	MaxHistory Limit `json:"max_history,omitempty"`

	// How many streams may be open at a time, on each node. Default: 50000.
	MaxConnections Limit `json:"max_connections,omitempty"`

	// How many streams one client address, {client_ip}, may have open on each node.
	// An IPv6 /64 network is one address. Loopback addresses are not counted: behind
	// an untrusted proxy on the same host all clients have the same, unless it sends
	// X-Forwarded-For. Default: 200.
	MaxConnectionsPerIP Limit `json:"max_connections_per_ip,omitempty"`

	// How many channels are held in memory, on each node. Over it, the channel
	// without subscribers that was published to longest ago is dropped. Of names that
	// were not published to there may be as many besides, with patterns that end in
	// their only wildcard, such as a/*; over it, further names are refused. Default:
	// 100000.
	MaxChannels Limit `json:"max_channels,omitempty"`

	// How much of each of the broker's tables one caller may fill, in percent: of
	// max_channels, max_patterns, max_states, max_state_bytes, of the names of channels
	// that only subscribers keep, and of the idempotency keys that are remembered. Over
	// max_history, who has more than this share of it loses events first. A caller is a
	// user, a token, or else a client address, {client_ip}; named bearers, the admin
	// endpoint and loopback addresses may fill all. In JSON a number from 1 to 100, or
	// "unlimited". Default: 10.
	Share Share `json:"share,omitempty"`

	// How many subscribers a channel may have, on each node. Default: unlimited.
	MaxSubscribers Limit `json:"max_subscribers,omitempty"`

	// How many different wildcard patterns may be subscribed to at a time, on each
	// node. Patterns that end in their only wildcard, such as users/7/** and a/*, do
	// not count. Default: 1000.
	MaxPatterns Limit `json:"max_patterns,omitempty"`

	// How many channels and patterns one stream may subscribe to. Default: 100.
	MaxSessionChannels Limit `json:"max_session_channels,omitempty"`

	// How many wildcard patterns one stream may subscribe to. Each is matched
	// against the names of all channels when the stream opens. Default: 10.
	MaxSessionPatterns Limit `json:"max_session_patterns,omitempty"`

	// How many streams one user may have open on each node, from any address.
	// Named bearers are not users. Default: unlimited.
	MaxConnectionsPerUser Limit `json:"max_connections_per_user,omitempty"`

	// How many streams and polls a second one client address, {client_ip}, may
	// begin on each node. An IPv6 /64 network is one address; loopback addresses
	// are not counted. Default: {"per_second": 100, "burst": 200}.
	ConnectRate Rate `json:"connect_rate,omitzero"`

	// How many credentials a second of one client address, {client_ip}, may be
	// refused on each node. Over that, requests of the address with a credential are
	// answered 429, and the credential is not looked at. Addresses are those of
	// connect_rate. Default: {"per_second": 20, "burst": 200}.
	RefusedRate Rate `json:"refused_rate,omitzero"`

	// How many reads a second that are no streams one caller may make on each node: a
	// user or token, or else a client address. They are polls, ?info, _channels,
	// values and _tickets. Named bearers and loopback addresses are not counted. With it
	// goes a bound on what streams and polls have the broker look at to find where they
	// begin: 500 channels and events for each read. One that has looked at more has the
	// next ones of its caller wait, and its streams that are behind when a channel of
	// their pattern is purged are told to come back.
	// Default: {"per_second": 100, "burst": 1000}.
	ReadRate Rate `json:"read_rate,omitzero"`

	// How many events a second one publisher may publish on each node: a user, a
	// named bearer, or else a client address. The admin endpoint has no rate.
	// Default: "unlimited".
	PublishRate Rate `json:"publish_rate,omitzero"`

	// How many bytes of data a second one publisher may publish on each node. An
	// event larger than the burst is accepted after a quiet time, and later events
	// wait accordingly longer. Default: "unlimited".
	PublishBytes Rate `json:"publish_bytes,omitzero"`

	// Which applications are told what happens. Default: none.
	Hooks []HookConfig `json:"hooks,omitempty"`

	// The size of one event's data, in bytes. Default: 256 KiB.
	MaxEvent Limit `json:"max_event,omitempty"`

	// How many channels may have a value, on all nodes together: nodes that share
	// a log need the same limit. Over it, a value of one more channel is refused;
	// none is removed. Default: 100000.
	MaxStates Limit `json:"max_states,omitempty"`

	// The size of all values and the names of their channels, in bytes, on all
	// nodes together, which need the same limit. Over it, a write that adds to it
	// is refused; nothing is removed. Default: 64 MiB.
	MaxStateBytes Limit `json:"max_state_bytes,omitempty"`

	// Where a Caddyfile declares the broker, for error messages. It is written by the
	// Caddyfile's adapter, and changes nothing. Default: none.
	Source *Source `json:"source,omitempty"`
}

// History bounds what a channel keeps. Events over any bound are removed, oldest
// first; a subscriber that needed them gets a gap.
type History struct {
	// Keep nothing: subscribers get only events that are published while they are
	// connected. Any bound beside it is an error. Default: false.
	Off bool `json:"off,omitempty"`
	// How many events are kept. Default: 1000.
	Events Limit `json:"events,omitempty"`
	// How old an event may get; at least 1ms, -1 is unlimited. Default: 1h.
	Age caddy.Duration `json:"age,omitempty"`
	// How much memory a channel's events may take, in bytes; at least 4 KiB.
	// Default: 16 MiB.
	Bytes Limit `json:"bytes,omitempty"`
}

// ChannelConfig has the settings of the channels that match a pattern.
type ChannelConfig struct {
	// Which channels: "*" stands for any part of a segment, a final "/**" for
	// the rest. Required.
	Pattern string `json:"pattern"`
	// What such a channel keeps. Default, for each bound: as in the broker's history.
	History *History `json:"history,omitempty"`

	// Remove the channel's value this long after its last write, as a DELETE
	// would; at least 1ms. Default: -1, never.
	StateTTL caddy.Duration `json:"state_ttl,omitempty"`

	// The JSON member that holds the value in what subscribers get: {"value":42}.
	// At most 64 bytes, and neither "patch" nor "deleted". Default: "value".
	StateKey string `json:"state_key,omitempty"`

	// What subscribers get of a change: "raw" is the whole value; "merge-patch"
	// (RFC 7396) and "json-patch" (RFC 6902) are a patch, {"patch":…}, where it is
	// shorter and the subscriber has the value that it applies to. Default: "raw".
	StateFormat string `json:"state_format,omitempty"`

	// The types of events that may be published; "message" stands for events
	// without a type, and a value is told by one whose type is the channel's name.
	// Others are refused. Default: any.
	EventTypes []string `json:"event_types,omitempty"`
	// The path of a file with a JSON Schema (2020-12) that the data of each
	// published event, and each value, must match. It is read when the configuration is loaded, and
	// must be whole in that file: nothing is fetched. Default: any data.
	Schema string `json:"schema,omitempty"`

	// Know who is in the channel: the users who have a stream that reads it by name, on
	// any node. Reading it takes the permission "presence". Default: false.
	Presence bool `json:"presence,omitempty"`
	// How many members are told by name, at most 1000. With more only their number is
	// told, every 5s. Default: 100.
	PresenceMembers int `json:"presence_members,omitempty"`
	// How long a user without a stream is a member still; from 1ms to 1m. A user whose
	// streams were told to reconnect, on exit, on reload, or for their age, has the
	// longest retry besides. Default: 5s.
	PresenceGrace caddy.Duration `json:"presence_grace,omitempty"`
	// The claims that a member's metadata has at first, at most 20 and of 1 KiB as JSON.
	// All who may read the presence see them. Default: none.
	PresenceMeta []string `json:"presence_meta,omitempty"`
}
