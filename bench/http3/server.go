//go:build linux

package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	_ "github.com/caddyserver/caddy/v2/modules/standard" // Caddy as it comes

	_ "github.com/evstream/caddy-evstream" // what is measured
	"github.com/evstream/caddy-evstream/bench/internal/credentials"
	"github.com/evstream/caddy-evstream/bench/internal/process"
)

const caddyfile = `{
	admin unix/{{dir}}/admin
	persist_config off
	auto_https off
	order bare before respond
	log {
		level ERROR
	}
}
(live) {
	bare /bare
	evstream /live/* {
		allow anyone subscribe,publish **
		heartbeat 5m
		{{options}}
	}
}
http://{{plain}} {
	import live
}
https://{{secure}} {
	tls {{dir}}/cert.pem {{dir}}/key.pem
	import live
}
`

// waiter is a handler that writes a header and waits, as the smallest program with a
// stream does.
type waiter struct{}

// CaddyModule implements caddy.Module.
func (*waiter) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.bench_bare", New: func() caddy.Module { return new(waiter) }}
}

// ServeHTTP implements caddyhttp.MiddlewareHandler.
func (*waiter) ServeHTTP(w http.ResponseWriter, r *http.Request, _ caddyhttp.Handler) error {
	w.Header().Set("Content-Type", "text/event-stream")
	_, _ = io.WriteString(w, ": bench\n\n")
	if err := http.NewResponseController(w).Flush(); err != nil {
		return err
	}
	<-r.Context().Done()
	return nil
}

// serveCommand is the argument with which this binary is Caddy.
const serveCommand = "serve"

// serve is Caddy, with the Caddyfile of that name, until it is killed; it returns only an error.
func serve(file string) error {
	caddy.RegisterModule(new(waiter))
	httpcaddyfile.RegisterHandlerDirective("bare", func(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
		h.Next()
		return new(waiter), nil
	})
	text, err := os.ReadFile(file) //nolint:gosec // its own
	if err != nil {
		return err
	}
	config, _, err := caddyconfig.GetAdapter("caddyfile").Adapt(text, map[string]any{"filename": file})
	if err != nil {
		return err
	}
	if err := caddy.Load(config, true); err != nil {
		return err
	}
	select {}
}

// server is a Caddy that runs.
type server struct {
	*process.Process
	plain, secure string // addresses
}

// start starts Caddy and waits until it serves.
func start(ctx context.Context, dir, target string, sampled bool) (*server, error) {
	s := new(server)
	var err error
	if s.plain, err = process.Free(ctx); err != nil {
		return nil, err
	}
	if s.secure, err = process.Free(ctx); err != nil {
		return nil, err
	}
	if _, err := credentials.New(dir); err != nil {
		return nil, err
	}
	options := ""
	if target != bare {
		options = "delivery " + target
	}
	text := strings.NewReplacer("{{dir}}", dir, "{{plain}}", s.plain, "{{secure}}", s.secure, "{{options}}", options).Replace(caddyfile)
	file := filepath.Join(dir, "Caddyfile")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return nil, err
	}
	itself, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, itself, serveCommand, file) //nolint:gosec // this binary
	if sampled {
		cmd.Env = append(os.Environ(), "GODEBUG=memprofilerate=1")
	}
	s.Process, err = process.Start(ctx, cmd, dir, s.secure)
	return s, err
}

// collections is how many collections make a stack as small as it can be: each halves it.
const collections = 4

// memory is what the process uses, in bytes.
type memory struct{ resident, heap, stacks, goroutines float64 }

var figures = regexp.MustCompile(`(?m)^# (HeapAlloc|Stack) = (\d+)`)

func (s *server) memory() (m memory, err error) {
	m.resident, _ = s.Resident()
	var heap []byte
	for range collections {
		if heap, err = s.Ask("heap?gc=1&debug=1"); err != nil {
			return m, err
		}
	}
	for _, found := range figures.FindAllSubmatch(heap, -1) {
		n, _ := strconv.ParseFloat(string(found[2]), 64)
		if string(found[1]) == "Stack" {
			m.stacks = n
		} else {
			m.heap = n
		}
	}
	stacks, err := s.Ask("goroutine?debug=1")
	if err != nil {
		return m, err
	}
	_, err = fmt.Sscanf(string(stacks), "goroutine profile: total %g", &m.goroutines)
	return m, err
}

// profile writes a heap profile, and the stacks of all goroutines.
func (s *server) profile(dir, target string) error {
	for name, query := range map[string]string{"heap": "heap?gc=1", "stacks": "goroutine?debug=1"} {
		profile, err := s.Ask(query)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, target+"."+name), profile, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// cpuProfile writes a profile of the CPU for about so long.
func (s *server) cpuProfile(dir, target string, d time.Duration) error {
	data, err := s.Ask(fmt.Sprintf("profile?seconds=%d", max(1, int(d.Seconds()))))
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, target+".cpu"), data, 0o600)
}

// datagrams counts those that the system has sent over UDP.
func datagrams() float64 {
	lines, _ := os.ReadFile("/proc/net/snmp")
	var names []string
	for line := range strings.Lines(string(lines)) {
		fields := strings.Fields(line)
		if fields[0] != "Udp:" {
			continue
		}
		if names == nil {
			names = fields
			continue
		}
		n, _ := strconv.ParseFloat(fields[slices.Index(names, "OutDatagrams")], 64)
		return n
	}
	return 0
}
