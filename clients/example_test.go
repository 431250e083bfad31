package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// made is the path of something that make clients has made.
func made(t *testing.T, name string) string {
	t.Helper()
	path, err := filepath.Abs(filepath.Join("..", "bin", name))
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// runApp runs the application of an example with node, beside the modules of npm, until the
// test ends. name is that of its copy.
func runApp(t *testing.T, example, name string, env ...string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(example, "app.mjs"))
	if err != nil {
		t.Fatal(err)
	}
	program := made(t, filepath.Join("clients", name))
	if err := os.WriteFile(program, text, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.Remove(program) })
	cmd := exec.Command("node", program)
	cmd.Env = append(os.Environ(), env...)
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
}

// runCaddy runs a Caddyfile until the test ends.
func runCaddy(t *testing.T, text, site string) {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "Caddyfile"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := command(context.Background(), dir, made(t, "caddy-clients"), "run")
	cmd.Env = append(os.Environ(), "HOME="+dir, "XDG_DATA_HOME="+dir, "XDG_CONFIG_HOME="+dir)
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		if err := cmd.Wait(); err != nil {
			t.Error("Caddy exits with", err)
		}
	})
	eventually(t, "Caddy to listen", func() bool { return answers(site) })
}

func free(t *testing.T) string {
	t.Helper()
	address, err := freeAddress()
	if err != nil {
		t.Fatal(err)
	}
	return strings.Replace(address, "127.0.0.1", "localhost", 1)
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	looks := time.NewTicker(20 * time.Millisecond)
	defer looks.Stop()
	patience := time.After(20 * time.Second)
	for !ok() {
		select {
		case <-looks.C:
		case <-patience:
			t.Fatalf("waited in vain for %s", what)
		}
	}
}
