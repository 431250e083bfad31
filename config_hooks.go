package evstream

// HookConfig tells an application what happens: requests to a URL, in the format of
// https://www.standardwebhooks.com.
type HookConfig struct {
	// What is told: "connected", "disconnected", "channel_active" and "channel_idle" (a
	// channel has its first reader on any node, or has lost its last one),
	// "member_joined" and "member_left" (of a channel with presence), and
	// "state_changed". Required.
	Events []string `json:"events"`

	// Where events are posted to: https:// or http://. It may contain {env.X} and
	// {file.path}, no other placeholder. No two hooks of a broker have the same.
	// Required.
	URL string `json:"url"`

	// What signs the events: "whsec_" and the base64 of 24 to 64 random bytes, or
	// {env.X} or {file.path} with such a text. With several, each event has a signature
	// for each, so that the receiver can go over from one to the next. Default: none,
	// which is an error unless the URL is one of this host, such as
	// http://localhost:3000.
	Secrets []string `json:"secrets,omitempty"`

	// Patterns: only what concerns a channel that one of them matches is told. A session
	// concerns the channels that it reads. Default: everything.
	Channels []string `json:"channels,omitempty"`
}
