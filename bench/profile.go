//go:build linux

package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"
)

// profile makes the server record a CPU profile during a measurement, if the
// settings ask for it and the server can. finish waits for it. The next run of the
// same scenario and target overwrites the files.
func (t *trial) profile() (finish func() error) {
	if t.profiles == "" || t.admin == "" {
		return func() error { return nil }
	}
	file := filepath.Join(t.profiles, fmt.Sprintf("%s-%d.pprof", t.name, len(t.usages)+1))
	done := make(chan error, 1)
	go func() { done <- record(t.ctx, t.admin, t.duration, file) }()
	return func() error { return <-done }
}

// record writes a CPU profile of the Caddy whose admin endpoint is the socket.
func record(ctx context.Context, admin string, d time.Duration, file string) error {
	transport := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", admin)
	}}
	url := fmt.Sprintf("http://127.0.0.1/debug/pprof/profile?seconds=%d", int(d.Seconds()))
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return err
	}
	answer, err := transport.RoundTrip(r)
	if err != nil {
		return fmt.Errorf("asking for a profile: %w", err)
	}
	defer answer.Body.Close()
	profile, err := io.ReadAll(answer.Body)
	if err != nil {
		return fmt.Errorf("reading a profile: %w", err)
	}
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("asking for a profile: %s: %s", answer.Status, profile)
	}
	return os.WriteFile(file, profile, 0o600)
}
