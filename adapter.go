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
	// Identity identifies the log of the broker of that name, such as by an
	// address or a path, and by nothing else: a configuration whose module and
	// identity equal those of the running one goes on with the open log. It is
	// called after the module is provisioned.
	Identity(name string) string

	// Open opens the log of the broker of that name. The log outlives the
	// configuration that opened it, so it must not use the provisioning
	// context. The caller closes it.
	Open(name string, logger *slog.Logger) (broker.Log, error)
}

// Reconfigurer is an Adapter whose open log can be configured anew.
type Reconfigurer interface {
	Adapter

	// Reconfigure applies the configuration of this adapter to the log of the
	// broker of that name, which an adapter of the same module and identity has
	// opened. It is called when the configuration has started, and again if the
	// one that replaced it is rolled back.
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

// Identity implements Adapter: a broker has only one log in memory.
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
