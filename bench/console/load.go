package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const caddyfile = `{
	admin off
	persist_config off
	auto_https off
	grace_period 1s
	evstream {
		max_connections_per_ip unlimited
		connect_rate unlimited
		publish_rate unlimited
	}
}
http://:%s {
	bind 127.0.0.1
	evstream /live/* {
		console
		allow anyone console,all **
	}
	header /blank Content-Type text/html
	respond /blank "<!doctype html><title>blank</title><p>Nothing"
}
`

// startCaddy starts a Caddy, which runs until end is called.
func startCaddy(ctx context.Context, binary, dir string) (address string, end func(), err error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	address = l.Addr().String()
	_ = l.Close()
	config := filepath.Join(dir, "Caddyfile")
	if err := os.WriteFile(config, fmt.Appendf(nil, caddyfile, address[strings.LastIndexByte(address, ':')+1:]), 0o600); err != nil {
		return "", nil, err
	}
	var said bytes.Buffer
	caddy := exec.CommandContext(ctx, binary, "run", "--config", config) //nolint:gosec // what it has built, or the caller names
	caddy.Env = append(os.Environ(), "XDG_DATA_HOME="+dir, "XDG_CONFIG_HOME="+dir)
	caddy.Stderr = &said
	if err := caddy.Start(); err != nil {
		return "", nil, err
	}
	end = func() { _ = caddy.Process.Kill(); _ = caddy.Wait() }
	for range 500 {
		resp, err := http.Get("http://" + address + "/blank")
		if err == nil {
			_ = resp.Body.Close()
			return address, end, nil
		}
		select {
		case <-ctx.Done():
			end()
			return "", nil, ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
	end()
	return "", nil, fmt.Errorf("the Caddy does not answer:\n%s", &said)
}

// load are the streams and the publisher.
type load struct {
	stop context.CancelFunc
	work sync.WaitGroup

	published, delivered atomic.Uint64

	mu    sync.Mutex
	fault error
}

func (l *load) failed(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.fault == nil {
		l.fault = err
	}
}

// check reports what has gone wrong so far.
func (l *load) check() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.fault
}

// startLoad opens the streams, and begins to publish.
func startLoad(ctx context.Context, address string, sessions, rate int) (*load, error) {
	ctx, stop := context.WithCancel(ctx)
	l := &load{stop: stop}
	for i := range sessions {
		if err := l.subscribe(ctx, address, i); err != nil {
			l.close()
			return nil, fmt.Errorf("stream %d of %d (ulimit -n?): %w", i, sessions, err)
		}
	}
	l.work.Go(func() {
		if err := l.publish(ctx, address, sessions, rate); err != nil && ctx.Err() == nil {
			l.failed(fmt.Errorf("publishing: %w", err))
		}
	})
	return l, nil
}

func (l *load) close() {
	l.stop()
	l.work.Wait()
}

// subscribe opens a stream, and has it read.
func (l *load) subscribe(ctx context.Context, address string, i int) error {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintf(conn, "GET /live/load/%d HTTP/1.1\r\nHost: %s\r\nAccept: text/event-stream\r\n\r\n", i, address); err != nil {
		return errors.Join(err, conn.Close())
	}
	head := make([]byte, 4<<10)
	n, err := conn.Read(head)
	if err == nil && !bytes.HasPrefix(head[:n], []byte("HTTP/1.1 200 ")) {
		err = fmt.Errorf("it is answered %q", head[:n])
	}
	if err != nil {
		return errors.Join(err, conn.Close())
	}
	end := context.AfterFunc(ctx, func() { _ = conn.Close() })
	l.work.Go(func() {
		defer end()
		defer conn.Close()
		for b := make([]byte, 1<<10); ; {
			n, err := conn.Read(b)
			l.delivered.Add(uint64(bytes.Count(b[:n], []byte("~")))) // an event has one
			if err != nil {
				if ctx.Err() == nil {
					l.failed(fmt.Errorf("stream %d: %w", i, err))
				}
				return
			}
		}
	})
	return nil
}

// publish sends one request with an event a line, at a rate.
func (l *load) publish(ctx context.Context, address string, channels, rate int) error {
	r, w := io.Pipe()
	l.work.Go(func() {
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		begun, out := time.Now(), bufio.NewWriter(w)
		for n := 0; ; {
			select {
			case <-ctx.Done():
				_ = w.Close()
				return
			case now := <-tick.C:
				for due := int(now.Sub(begun).Seconds() * float64(rate)); n < due; n++ {
					fmt.Fprintf(out, `{"channel":"load/%d","event":"score","data":{"mark":"~","n":%d,"home":%d,"away":%d,"minute":%d,"by":"a player of some name"}}`+"\n",
						n%channels, n, n%7, n%5, n%90)
					l.published.Add(1)
				}
				if err := out.Flush(); err != nil {
					return // the answer says why
				}
			}
		}
	})
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+address+"/live/_publish", r)
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/x-ndjson")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return errors.Join(err, r.Close())
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<10))
	_ = r.Close()
	return fmt.Errorf("it has ended early: %s: %s", resp.Status, text)
}

// during says what the load was while something else was measured.
func (l *load) during(do func() (*figures, error)) (*figures, error) {
	published, delivered, begun := l.published.Load(), l.delivered.Load(), time.Now()
	f, err := do()
	if err == nil {
		err = l.check()
	}
	if err != nil {
		return nil, err
	}
	took := time.Since(begun).Seconds()
	f.published, f.delivered = float64(l.published.Load()-published)/took, float64(l.delivered.Load()-delivered)/took
	return f, nil
}
