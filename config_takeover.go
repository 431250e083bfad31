package evstream

// HandoffConfig has an application hand its answers over: where the handler behind answers
// GET or POST with status 200 and Evstream-Channels, the hub serves a stream of those
// channels, and the request to the application is over. docs/takeover.md has the headers.
type HandoffConfig struct{}
