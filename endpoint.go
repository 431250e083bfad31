package evstream

import (
	"log/slog"
	"time"

	"github.com/evstream/caddy-evstream/stream"
)

// endpoint serves the verbs of one mount: a handler's, or that of Caddy's
// admin endpoint. It does not change once it is in use, so that the streams of
// a replaced configuration go on with what they began with.
type endpoint struct {
	hub    *hub
	app    *App   // whose configuration it belongs to; nil for Caddy's admin endpoint
	mount  string // "" or "/live"
	place  place  // which requests reach it
	access *access
	cors   *cors
	stream streamSettings
	log    *accessLog // of streams that are detached; nil for none

	maxBody    int
	overload   int  // 503, or 200 for "retry"
	errorRoute bool // the site has handle_errors: errors are returned to Caddy

	logger *slog.Logger
}

// streamSettings is how an endpoint's streams behave.
type streamSettings struct {
	heartbeat      time.Duration // 0: none
	heartbeatEvent bool
	retryMin       time.Duration
	retryMax       time.Duration
	writeTimeout   time.Duration
	maxAge         time.Duration // 0: unlimited
	drain          time.Duration
	onReloadDrain  time.Duration // 0: streams live on
	attached       bool          // none is detached
}

// live is a stream that is being served, as the hub knows it.
type live struct {
	session  *stream.Session
	endpoint *endpoint // that it began at, or was handed to by a reload; hub.mu guards it
	asked    asked     // the request that began it
	who      *caller   // that asked; it does not change, and may be shared
	address  string    // of the client
	counted  string    // the user whose streams it counts among; hub.mu guards it
	ticket   ticketKey // of the ticket that opened it, or zero; hub.mu guards it
	logged   *logged   // for the access log; nil where Caddy writes it, or nobody
}
