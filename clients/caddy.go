package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// caddyfile has short intervals, so that a run is short.
const caddyfile = `{
	admin off
	persist_config off
	auto_https off
	grace_period 5s
	evstream {
		history 10000 1h
	}
}
http://%s {
	bind 127.0.0.1
	evstream /live/* {
		allow anyone all **
		cors *
		heartbeat 1s
		retry 300ms 600ms
		drain 500ms
		%s
	}
}
`

// caddy is the server under test.
type caddy struct {
	binary, dir, address string
	options              string // of the handler
	cmd                  *exec.Cmd
}

// command is a program that ends with ctx, and whose children do.
func command(ctx context.Context, dir, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 2 * time.Second
	return cmd
}

// freeAddress is one that nobody listens at.
func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}

func (c *caddy) start(ctx context.Context) error {
	file := filepath.Join(c.dir, "Caddyfile")
	if err := os.WriteFile(file, fmt.Appendf(nil, caddyfile, c.address, c.options), 0o600); err != nil {
		return err
	}
	out, err := os.OpenFile(filepath.Join(c.dir, "caddy.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer out.Close()
	c.cmd = command(ctx, c.dir, c.binary, "run", "--config", file, "--adapter", "caddyfile")
	c.cmd.Env = append(os.Environ(), "HOME="+c.dir, "XDG_DATA_HOME="+c.dir, "XDG_CONFIG_HOME="+c.dir)
	c.cmd.Stdout, c.cmd.Stderr = out, out
	if err := c.cmd.Start(); err != nil {
		return err
	}
	err = until(ctx, 30*time.Second, "Caddy to answer at "+c.address, func() bool { return answers(c.address) })
	if err != nil {
		text, _ := os.ReadFile(out.Name())
		return fmt.Errorf("%w; it says\n%s", err, text[max(0, len(text)-2000):])
	}
	return nil
}

// answers reports whether somebody listens.
func answers(address string) bool {
	conn, err := net.Dial("tcp", address)
	if err == nil {
		_ = conn.Close()
	}
	return err == nil
}

// stop ends it with a signal, and waits.
func (c *caddy) stop(signal syscall.Signal) {
	if c.cmd == nil || c.cmd.Process == nil {
		return
	}
	_ = c.cmd.Process.Signal(signal)
	_ = c.cmd.Wait()
}

// publish publishes an event to channels, and returns when it was sent.
func (c *caddy) publish(ctx context.Context, channels []string, event, data string) (sent time.Time, err error) {
	body, err := json.Marshal(map[string]any{"channels": channels, "event": event, "data": data})
	if event == "" {
		body, err = json.Marshal(map[string]any{"channels": channels, "data": data})
	}
	if err != nil {
		return sent, err
	}
	sent = time.Now()
	answer, err := c.ask(ctx, http.MethodPost, "/live/_publish", body)
	if err == nil && answer.StatusCode != http.StatusOK {
		err = fmt.Errorf("publishing is answered %d", answer.StatusCode)
	}
	return sent, err
}

// readers is how many streams a channel has.
func (c *caddy) readers(ctx context.Context, channel string) int {
	var doc struct{ Subscribers int }
	answer, err := c.ask(ctx, http.MethodGet, "/live/"+channel+"?info", nil)
	if err != nil || json.Unmarshal(answer.body, &doc) != nil {
		return 0
	}
	return doc.Subscribers
}

type answer struct {
	*http.Response
	body []byte
}

func (c *caddy) ask(ctx context.Context, method, path string, body []byte) (answer, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://"+c.address+path, bytes.NewReader(body))
	if err != nil {
		return answer{}, err
	}
	req.Header.Set("Accept", "application/json")
	req.Header.Set("Content-Type", "application/json")
	a, err := http.DefaultClient.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer a.Body.Close()
	text, err := io.ReadAll(a.Body)
	return answer{a, text}, err
}

// until waits until ok is true.
func until(ctx context.Context, patience time.Duration, what string, ok func() bool) error {
	deadline := time.Now().Add(patience)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
		if time.Now().After(deadline) {
			return errors.New("waited in vain for " + what)
		}
	}
	return nil
}
