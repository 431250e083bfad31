package evstream

import (
	"log/slog"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/evstream/caddy-evstream/broker"
)

func init() {
	caddy.RegisterModule(MemoryAdapter{})
}

// Adapter is what a module of the namespace evstream.adapters implements: it
// says which log a broker uses, and opens it.
type Adapter interface {
	// Identity is what tells this adapter's log from another's, such as an
	// address or a path, and nothing else: of two configurations with equal
	// identities the later one goes on with the log that the earlier one
	// opened. It is called once the module is provisioned, with the name of the
	// broker that the log is for.
	Identity(name string) string

	// Open opens the log of the broker of that name. It outlives the
	// configuration that opened it, so it must keep nothing of the provisioning
	// context. The caller closes it.
	Open(name string, logger *slog.Logger) (broker.Log, error)
}

// Reconfigurer is an Adapter whose log takes over what may change while it runs.
type Reconfigurer interface {
	Adapter

	// Reconfigure gives the log of the broker of that name, which an adapter of
	// the same module and identity has opened, what this one is configured with.
	// It is called when the configuration has started, and again when the one
	// that replaced it is given up.
	Reconfigure(name string, log broker.Log) error
}

// MemoryAdapter keeps the log in memory. It needs no service, and forgets
// everything when the process ends.
type MemoryAdapter struct{}

// CaddyModule returns the Caddy module information.
func (MemoryAdapter) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "evstream.adapters.memory",
		New: func() caddy.Module { return new(MemoryAdapter) },
	}
}

// Identity implements Adapter: a broker has one memory.
func (MemoryAdapter) Identity(string) string { return "" }

// Open implements Adapter.
func (MemoryAdapter) Open(string, *slog.Logger) (broker.Log, error) {
	return broker.NewMemory(), nil
}

// UnmarshalCaddyfile sets up the adapter from Caddyfile tokens. Syntax:
//
//	adapter memory
func (MemoryAdapter) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // the module's name
	if d.NextArg() {
		return d.Errf("the memory adapter has no arguments, not %q", d.Val())
	}
	if d.NextBlock(d.Nesting()) {
		return d.Errf("the memory adapter has no options, not %q", d.Val())
	}
	return nil
}

// Interface guards
var (
	_ Adapter               = (*MemoryAdapter)(nil)
	_ caddyfile.Unmarshaler = (*MemoryAdapter)(nil)
)
