package evstream

import "github.com/caddyserver/caddy/v2"

// HandoffConfig has an application hand its answers over: where the handler behind answers
// GET or POST with status 200 and Evstream-Channels, the hub serves a stream of those
// channels, and the request to the application is over. docs/takeover.md has the headers.
type HandoffConfig struct {
	// Speaks GRIP with the application, instead of Evstream- headers: the protocol of
	// Pushpin and Fastly Fanout. Default: no. docs/grip.md says what of it is done.
	Grip *GripConfig `json:"grip,omitempty"`
}

// GripConfig is what an application and the hub know of each other, for GRIP.
type GripConfig struct {
	// The key that publishing needs, at the admin endpoint, at /evstream/_grip/publish/, and
	// at Publish. It signs the requests to the application, too, unless SignKey does. It is
	// a secret of at least 8 bytes, for HS256, or a private key of the curve P-256 as PEM,
	// for ES256; base64: and the base64 of either, or of the key's DER, stands for it, and
	// {env.NAME} and {file./abs/path} for a value. With a private key only tokens publish.
	// Default: none: requests are signed with a random secret, which no application can
	// check, and whoever reaches the admin endpoint may publish, as everywhere there.
	Key string `json:"key,omitempty"`

	// The key that signs the requests to the application instead of Key, in the same forms.
	// With a private key the application needs its public half, and nothing else, to check
	// that a request comes from here. Default: Key.
	SignKey string `json:"sign_key,omitempty"`

	// The issuer of the signatures, and of the tokens that publish. Default: "evstream".
	Issuer string `json:"iss,omitempty"`

	// A path at which applications publish in this site, too: /_grip is that /_grip/publish/
	// takes items. It needs a key. Libraries for Node.js need it, because Caddy's admin
	// endpoint refuses what Node.js fetches without an Origin. Default: none.
	Publish string `json:"publish,omitempty"`
}

// RecordConfig has the answers of an application recorded, if they are event streams:
// they go on when their reader has gone, and a request for one that is going on, or is
// kept, is served by the hub. docs/record.md says more.
type RecordConfig struct {
	// The channel on which the answer to a request is recorded. Placeholders may be part of
	// it, such as chat/{http.request.uri.path.2}, or {evstream.body.id} for a member of the
	// request's JSON body, with dots for those of objects in it: each becomes a part of one
	// segment. A request for which one has no value is passed on and not recorded. Required.
	Channel string `json:"channel"`

	// What becomes of a request while an answer is being recorded on its channel: "join"
	// is that it gets that answer, from the beginning; "replace" stops it and asks the
	// application, which needs the right to stop it; "refuse" is status 409. Default:
	// "join".
	OnActive string `json:"on_active,omitempty"`

	// How long an answer may take before it is cut off, from 1s to 24h. Default: 30m.
	Longest caddy.Duration `json:"longest,omitempty"`

	// How many bytes an answer may have before it is cut off, from 64 KiB to 64 MiB.
	// Default: 4 MiB.
	Largest Limit `json:"largest,omitempty"`

	// How long an answer is kept after its end, from 1s to 168h. Default: 1h.
	Keep caddy.Duration `json:"keep,omitempty"`

	// The header fields of the answer that later readers get, too. Default: those that
	// clients of such answers look at, x-vercel-ai-ui-message-stream among them.
	Headers []string `json:"headers,omitempty"`

	// The event that readers get last if the answer is cut off. Default: an event
	// "broken", or what the AI SDK understands where the answer is for that.
	Broken *MarkConfig `json:"broken_event,omitempty"`

	// The event that readers get last if somebody stops the answer. Default: an event
	// "stopped", or what the AI SDK understands where the answer is for that.
	Stopped *MarkConfig `json:"stopped_event,omitempty"`
}

// MarkConfig is an event that says how a recorded answer has ended. It has at most 4 KiB as
// JSON.
type MarkConfig struct {
	// Its type. Default: none, which is "message".
	Event string `json:"event,omitempty"`
	// Its data, as text. Required.
	Data string `json:"data"`
}

// ResumeConfig has the hub answer GET with the answer that is recorded on a channel: from
// its beginning, or where the client says, to its end. Without one the answer is 204.
type ResumeConfig struct {
	// The channel, as in record, but without members of a body. Required.
	Channel string `json:"channel"`
}
