package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
)

// pages serves a page to browsers, and hears what it dispatches.
type pages struct {
	server  *http.Server
	address string

	mu    sync.Mutex
	heard map[string]func(dispatch)
}

func servePages(modules string) (*pages, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &pages{address: l.Addr().String(), heard: map[string]func(dispatch){}}
	mux := http.NewServeMux()
	mux.HandleFunc("/page", func(w http.ResponseWriter, r *http.Request) {
		http.ServeFile(w, r, filepath.Join("other", "page.html"))
	})
	mux.HandleFunc("/modules/", func(w http.ResponseWriter, r *http.Request) {
		file := filepath.Join(modules, strings.TrimPrefix(r.URL.Path, "/modules/"))
		if filepath.Ext(file) == "" { // as bundlers resolve it
			file += ".js"
		}
		http.ServeFile(w, r, file)
	})
	mux.HandleFunc("/heard", func(_ http.ResponseWriter, r *http.Request) {
		p.mu.Lock()
		heard := p.heard[r.URL.Query().Get("name")]
		p.mu.Unlock()
		lines := bufio.NewScanner(r.Body)
		lines.Buffer(nil, 8<<20)
		for lines.Scan() {
			var d dispatch
			if json.Unmarshal(lines.Bytes(), &d) == nil && heard != nil {
				heard(d)
			}
		}
	})
	p.server = &http.Server{Handler: mux} //nolint:gosec // for one browser of our own
	go func() { _ = p.server.Serve(l) }()
	return p, nil
}

// browser runs a page in a browser of its own.
func browser(client string, program func(context.Context, string, string) (*exec.Cmd, error)) func(context.Context, place, string, func(dispatch)) error {
	return func(ctx context.Context, at place, stream string, heard func(dispatch)) error {
		name := filepath.Base(at.dir)
		at.pages.mu.Lock()
		at.pages.heard[name] = heard
		at.pages.mu.Unlock()
		page := fmt.Sprintf("http://%s/page?client=%s&name=%s&url=%s", at.pages.address, client, name, url.QueryEscape(stream))
		cmd, err := program(ctx, at.dir, page)
		if err != nil {
			return err
		}
		out, err := os.Create(filepath.Join(at.dir, "output"))
		if err != nil {
			return err
		}
		defer out.Close()
		cmd.Stdout, cmd.Stderr = out, out
		return cmd.Run()
	}
}

// installed is the first of these commands that there is.
func installed(names ...string) (string, error) {
	for _, name := range names {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", errors.New("there is no " + names[0])
}

func chromium(ctx context.Context, dir, page string) (*exec.Cmd, error) {
	path, err := installed("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
	return command(ctx, dir, path, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-dev-shm-usage",
		"--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-background-timer-throttling",
		"--disable-renderer-backgrounding", "--disable-backgrounding-occluded-windows",
		"--remote-debugging-port=0", "--user-data-dir="+filepath.Join(dir, "profile"), page), err
}

func firefox(ctx context.Context, dir, page string) (*exec.Cmd, error) {
	path, err := installed("firefox-esr", "firefox")
	if err != nil {
		return nil, err
	}
	profile := filepath.Join(dir, "profile")
	if err := os.MkdirAll(profile, 0o700); err != nil {
		return nil, err
	}
	cmd := command(ctx, dir, path, "--headless", "--no-remote", "--profile", profile, page)
	cmd.Env = append(os.Environ(), "HOME="+dir, "MOZ_DISABLE_CONTENT_SANDBOX=1")
	return cmd, nil
}
