package evstream

import (
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/evstream/caddy-evstream/boltadapter"
	"github.com/evstream/caddy-evstream/broker"
)

func init() {
	caddy.RegisterModule(new(BoltAdapter))
}

// BoltAdapter keeps the log in a directory on the disk of this machine. What was
// acknowledged survives a restart, a crash and a power cut, and clients resume where
// they were. Only one process can use the directory at a time.
type BoltAdapter struct {
	// The directory of the log, which is made if it is not there. It must be on a
	// disk of this machine, not on a network. It may contain {env.NAME}; a relative
	// path is beneath the directory that Caddy was started in. Default: the
	// directory evstream/ and the broker's name, in Caddy's data directory.
	Path string `json:"path,omitempty"`

	// How long a commit waits for more publishes, at most 1s. All are acknowledged
	// when they are on the disk, so a longer time loses nothing: publishers wait
	// for it, and the disk writes less. Default: 0, a commit waits only for the one
	// before it.
	Sync caddy.Duration `json:"sync,omitempty"`

	// Acknowledge what only the operating system has. It survives the end of Caddy,
	// also by kill -9; the newest part is lost when the machine crashes or loses
	// power, and the log may then refuse to open. A warning says so at each start.
	// Default: false.
	UnsafeNoSync bool `json:"unsafe_no_sync,omitempty"`

	// The size of all events on the disk, in bytes; at least 32 MiB. Over it the
	// oldest are removed before their history's age. Default: 1 GiB.
	Retain Limit `json:"retain,omitempty"`

	// The size of the directory, in bytes; at least 64 MiB, and more than retain.
	// Over it publishes and values are refused with 507 until old events have been
	// removed. Default: unlimited, the disk is the bound.
	MaxSize Limit `json:"max_size,omitempty"`

	config *boltadapter.Config // set by Provision; Path "" is the default
}

// CaddyModule returns the Caddy module information.
func (*BoltAdapter) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "evstream.adapters.bolt",
		New: func() caddy.Module { return new(BoltAdapter) },
	}
}

// Provision reads the configuration. It does not touch the disk.
func (a *BoltAdapter) Provision(caddy.Context) error {
	if err := a.check(); err != nil {
		return err
	}
	c := a.limits()
	if a.Path != "" {
		path, err := replaced(caddy.NewReplacer(), a.Path)
		if err != nil {
			return fmt.Errorf("the path of the log: %w", err)
		}
		if c.Path, err = filepath.Abs(path); err != nil {
			return fmt.Errorf("the path of the log: %w", err)
		}
	}
	a.config = &c
	return nil
}

// check reports the first invalid value that can be found without replacing
// placeholders.
func (a *BoltAdapter) check() error {
	if a.Retain == Unlimited {
		return errors.New("retain must be a size, such as 1GiB: what is kept for as long as its history says has no other bound on the disk")
	}
	c := a.limits()
	c.Path = "any"
	return c.Validate()
}

// limits is the configuration without its path.
func (a *BoltAdapter) limits() boltadapter.Config {
	c := boltadapter.DefaultConfig("")
	c.SyncEvery, c.NoSync = time.Duration(a.Sync), a.UnsafeNoSync
	c.Retain = int64(a.Retain.or(int(c.Retain)))
	if a.MaxSize != Unlimited {
		c.MaxSize = int64(a.MaxSize)
	}
	return c
}

// Identity implements Adapter: the directory.
func (a *BoltAdapter) Identity(name string) string { return a.configOf(name).Path }

// Open implements Adapter. The files are opened when the configuration starts: one
// that is only validated must not wait for the Caddy that uses them.
func (a *BoltAdapter) Open(name string, logger *slog.Logger) (broker.Log, error) {
	c := a.configOf(name)
	c.Logger = logger.With(slog.String("broker", name))
	return boltadapter.New(c)
}

// Reconfigure implements Reconfigurer: all but the path.
func (a *BoltAdapter) Reconfigure(name string, log broker.Log) error {
	return log.(*boltadapter.Log).Reconfigure(a.configOf(name))
}

// configOf returns the configuration of a broker's log.
func (a *BoltAdapter) configOf(name string) boltadapter.Config {
	c := *a.config
	if c.Path == "" {
		c.Path = logDirectory(name)
	}
	return c
}

// UnmarshalCaddyfile sets up the adapter from Caddyfile tokens. Syntax:
//
//	adapter bolt [<path>] {
//		sync           always|<duration>
//		unsafe_no_sync
//		retain         <size>
//		max_size       <size>|unlimited
//	}
//
// The path is that of a directory. No line may be repeated.
func (a *BoltAdapter) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // the module's name
	opening := d.Token()
	if d.NextArg() {
		a.Path = d.Val()
	}
	seen, err := block(d, "adapter bolt", nil, func(name string) error { return a.unmarshalOption(d, name) })
	if err != nil {
		return err
	}
	if err := a.check(); err != nil {
		return seen.errorOf(opening, "adapter bolt: %w", err)
	}
	return nil
}

func (a *BoltAdapter) unmarshalOption(d *caddyfile.Dispenser, name string) error {
	switch name {
	case "sync":
		args := d.RemainingArgs()
		switch {
		case len(args) == 1 && args[0] == "always":
			return nil
		case len(args) == 1 && args[0] == "off":
			return d.Errf("sync off is written unsafe_no_sync, because a power cut then loses what was acknowledged")
		}
		return parseDuration(d, name, args, &a.Sync, "always")
	case "unsafe_no_sync":
		if d.NextArg() {
			return d.Errf("unsafe_no_sync has no arguments, not %q", d.Val())
		}
		a.UnsafeNoSync = true
		return nil
	case "retain":
		return parseLimit(d, parseSize, &a.Retain)
	case "max_size":
		return parseLimit(d, parseSize, &a.MaxSize)
	}
	return d.Errf("adapter bolt: unknown subdirective %q%s", name, boltWords.hint(name))
}

// Interface guards
var (
	_ Adapter               = (*BoltAdapter)(nil)
	_ Reconfigurer          = (*BoltAdapter)(nil)
	_ caddy.Provisioner     = (*BoltAdapter)(nil)
	_ caddyfile.Unmarshaler = (*BoltAdapter)(nil)
)
