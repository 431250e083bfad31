// Package scoreboard plays football and cricket matches, so that the example
// page has something to show. It is a backend like any other: it knows evstream
// only as a URL that it posts events to, and could as well be a script.
package scoreboard

import (
	"context"
	"fmt"
	"net"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
)

const (
	defaultAdmin = "localhost:2019"
	defaultPace  = time.Second
	minPace      = 10 * time.Millisecond
)

func init() {
	caddy.RegisterModule(App{})
	httpcaddyfile.RegisterGlobalOption("scoreboard", parseOption)
}

// App is the Caddy app "scoreboard": three football and two cricket matches
// that never end for long, published through Caddy's admin endpoint.
type App struct {
	// The address of the admin endpoint that events are posted to.
	// Default: localhost:2019.
	Admin string `json:"admin,omitempty"`

	// How long a minute of football takes, at least 10ms; a ball of cricket takes
	// twice as long. Default: 1s.
	Pace caddy.Duration `json:"pace,omitempty"`

	player *player
	stop   context.CancelFunc
	done   chan struct{} // closed when the player's goroutine has returned
}

// CaddyModule returns the module's name and constructor.
func (App) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "scoreboard",
		New: func() caddy.Module { return new(App) },
	}
}

// Provision fills in the defaults.
func (a *App) Provision(ctx caddy.Context) error {
	if a.Admin == "" {
		a.Admin = defaultAdmin
	}
	if a.Pace == 0 {
		a.Pace = caddy.Duration(defaultPace)
	}
	a.player = newPlayer(fixtures(), "http://"+a.Admin+"/evstream", time.Duration(a.Pace), ctx.Slogger())
	return nil
}

// Validate refuses an address without a port, and a pace that is too fast.
func (a *App) Validate() error {
	if _, _, err := net.SplitHostPort(a.Admin); err != nil {
		return fmt.Errorf("admin %q is not host:port: %w", a.Admin, err)
	}
	if time.Duration(a.Pace) < minPace {
		return fmt.Errorf("pace %s is below %s", time.Duration(a.Pace), minPace)
	}
	return nil
}

// Start begins to play. It does not wait for the endpoint to be up.
func (a *App) Start() error {
	ctx, cancel := context.WithCancel(context.Background())
	a.stop, a.done = cancel, make(chan struct{})
	go func() {
		defer close(a.done)
		a.player.run(ctx)
	}()
	return nil
}

// Stop stops the player and waits for it. In a reload the player of the next
// configuration runs already: it posts the same events with the same idempotency
// keys, so that each is stored once.
func (a *App) Stop() error {
	a.stop()
	<-a.done
	return nil
}

// UnmarshalCaddyfile reads the global option:
//
//	scoreboard {
//		admin <host:port>
//		pace  <duration>
//	}
func (a *App) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // the option's name
	if d.NextArg() {
		return d.ArgErr()
	}
	for d.NextBlock(0) {
		switch d.Val() {
		case "admin":
			if a.Admin != "" {
				return d.Err("admin is given twice")
			}
			if !d.AllArgs(&a.Admin) {
				return d.ArgErr()
			}
		case "pace":
			if a.Pace != 0 {
				return d.Err("pace is given twice")
			}
			var text string
			if !d.AllArgs(&text) {
				return d.ArgErr()
			}
			pace, err := caddy.ParseDuration(text)
			if err != nil {
				return d.Errf("pace: %v", err)
			}
			if pace < minPace {
				return d.Errf("pace %s is below %s", pace, minPace)
			}
			a.Pace = caddy.Duration(pace)
		default:
			return d.Errf("unknown option %q: scoreboard has admin and pace", d.Val())
		}
	}
	return nil
}

func parseOption(d *caddyfile.Dispenser, existing any) (any, error) {
	if existing != nil {
		return nil, d.Err("scoreboard is given twice")
	}
	a := new(App)
	if err := a.UnmarshalCaddyfile(d); err != nil {
		return nil, err
	}
	return httpcaddyfile.App{Name: "scoreboard", Value: caddyconfig.JSON(a, nil)}, nil
}

// Interface guards.
var (
	_ caddy.App             = (*App)(nil)
	_ caddy.Provisioner     = (*App)(nil)
	_ caddy.Validator       = (*App)(nil)
	_ caddyfile.Unmarshaler = (*App)(nil)
)
