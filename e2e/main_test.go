// Package e2e tests the hub from outside: a Caddy in a process of its own, and
// real clients, Chromium among them, over HTTP/1.1, HTTP/2 and HTTP/3.
package e2e

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/evstream/caddy-evstream/internal/leaktest"
)

// patience is how long a test waits for what must happen. Nothing is asserted
// about how fast it happens, unless the test says so.
const patience = 60 * time.Second

// caddyBinary is the Caddy that the tests run.
var caddyBinary string

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	if arguments := os.Getenv(readerEnv); arguments != "" {
		fmt.Fprintln(os.Stderr, readStream(arguments))
		return 1
	}
	flag.Parse()
	// Most tests wait most of the time, so that more of them can run at once than
	// there are CPUs.
	if err := flag.Set("test.parallel", "8"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	dir, err := os.MkdirTemp("", "evstream-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	// go test compiles the packages with the race detector anyway, so that this only
	// links: it takes less than 10 s.
	caddyBinary = filepath.Join(dir, "caddy")
	begun := time.Now()
	build := exec.Command("go", "build", "-race", "-ldflags=-s -w", "-o", caddyBinary, "../cmd/caddy")
	if os.Getenv(faultEnv) != "" || os.Getenv(killsEnv) != "" { // the full scale is not about races
		build = exec.Command("go", "build", "-o", caddyBinary, "../cmd/caddy")
	}
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "building Caddy: %v\n%s", err, out)
		return 1
	}
	if testing.Verbose() {
		fmt.Printf("built Caddy in %.1f s\n", time.Since(begun).Seconds())
	}

	code := m.Run()
	closeBrowser()
	if code == 0 {
		if err := leaktest.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	return code
}

// eventually waits until ok.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); !ok(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("waited %s in vain: %s", patience, what)
		}
	}
}
