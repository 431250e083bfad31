package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"time"
)

// front is what stands between the clients and Caddy.
type front struct {
	name string
	// start runs it in a directory, in front of an address; nil if nothing stands
	// there.
	start func(ctx context.Context, dir, listen, upstream string) (*exec.Cmd, error)
	// options are of the handler.
	options string
}

var fronts = []front{
	{name: "direct"},
	{name: "attached", options: "delivery attached"},
	{name: "nginx", start: nginx},
	{name: "haproxy", start: haproxy},
}

// nginx is configured as its packages do it, but for the two lines without which it
// speaks HTTP/1.0 to Caddy.
func nginx(ctx context.Context, dir, listen, upstream string) (*exec.Cmd, error) {
	file := filepath.Join(dir, "nginx.conf")
	err := os.WriteFile(file, fmt.Appendf(nil, `
daemon off;
worker_processes 1;
pid nginx.pid;
error_log nginx.log;
events { worker_connections 512; }
http {
	access_log off;
	client_body_temp_path body;
	proxy_temp_path proxy;
	fastcgi_temp_path fastcgi;
	uwsgi_temp_path uwsgi;
	scgi_temp_path scgi;
	server {
		listen %s;
		location / {
			proxy_pass http://%s;
			proxy_http_version 1.1;
			proxy_set_header Connection "";
		}
	}
}
`, listen, upstream), 0o600)
	return command(ctx, dir, "nginx", "-p", dir, "-c", file, "-e", filepath.Join(dir, "nginx.log")), err
}

func haproxy(ctx context.Context, dir, listen, upstream string) (*exec.Cmd, error) {
	file := filepath.Join(dir, "haproxy.cfg")
	err := os.WriteFile(file, fmt.Appendf(nil, `
defaults
	mode http
	timeout connect 5s
	timeout client 30s
	timeout server 30s
frontend all
	bind %s
	default_backend caddy
backend caddy
	server caddy %s
`, listen, upstream), 0o600)
	return command(ctx, dir, "haproxy", "-db", "-f", file), err
}

// line is a way for TCP connections that can be cut, for one client.
type line struct {
	listener net.Listener
	upstream string

	mu    sync.Mutex
	held  chan struct{} // not nil while requests must wait
	open  map[net.Conn]struct{}
	spare int // of what comes from upstream, so many bytes pass and then it is cut; -1 for all
}

func newLine(upstream string) (*line, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	c := &line{listener: l, upstream: upstream, open: map[net.Conn]struct{}{}, spare: -1}
	go c.accept()
	return c, nil
}

func (c *line) accept() {
	for {
		down, err := c.listener.Accept()
		if err != nil {
			return
		}
		go c.carry(down)
	}
}

func (c *line) carry(down net.Conn) {
	defer down.Close()
	c.wait()
	up, err := net.DialTimeout("tcp", c.upstream, 5*time.Second)
	if err != nil {
		return
	}
	defer up.Close()
	c.mu.Lock()
	c.open[down], c.open[up] = struct{}{}, struct{}{}
	c.mu.Unlock()
	go func() {
		defer up.Close()
		b := make([]byte, 4<<10)
		for {
			n, err := down.Read(b)
			c.wait()
			if _, werr := up.Write(b[:n]); err != nil || werr != nil {
				return
			}
		}
	}()
	b := make([]byte, 32<<10)
	for {
		n, err := up.Read(b)
		some, cut := c.pass(n)
		if _, werr := down.Write(b[:some]); err != nil || werr != nil || cut {
			break
		}
	}
	c.mu.Lock()
	delete(c.open, down)
	delete(c.open, up)
	c.mu.Unlock()
}

// pass is how many of so many bytes may go on, and whether that is the end.
func (c *line) pass(n int) (some int, cut bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.spare < 0 || n == 0 {
		return n, false
	}
	some = min(n, c.spare)
	c.spare = -1
	return some, true
}

// cut closes all connections: both sides get an end of the connection in the
// middle of the response.
func (c *line) cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for conn := range c.open {
		_ = conn.Close()
	}
}

// cutWithin lets so many bytes pass of what comes next, and cuts.
func (c *line) cutWithin(bytes int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.spare = bytes
}

// wait waits while the line is held.
func (c *line) wait() {
	c.mu.Lock()
	held := c.held
	c.mu.Unlock()
	if held != nil {
		<-held
	}
}

// hold makes connections, and requests on those that there are, wait until release.
func (c *line) hold() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.held = make(chan struct{})
}

func (c *line) release() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.held != nil {
		close(c.held)
		c.held = nil
	}
}
