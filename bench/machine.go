//go:build linux

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// cores are the cores of the server and of the load. The zero value leaves that to
// the kernel.
type cores struct {
	server, load unix.CPUSet
	loads        int // how many cores the load has
	apart        bool
}

// share gives the server the first core that this process may use, and the
// load the others, if there are any.
func share() (cores, error) {
	var all unix.CPUSet
	if err := unix.SchedGetaffinity(0, &all); err != nil {
		return cores{}, fmt.Errorf("asking for the cores: %w", err)
	}
	c := cores{server: all, load: all, loads: all.Count()}
	if c.loads < 2 {
		return c, nil
	}
	c.apart = true
	c.server.Zero()
	for cpu := 0; c.server.Count() == 0; cpu++ {
		if all.IsSet(cpu) {
			c.server.Set(cpu)
			c.load.Clear(cpu)
		}
	}
	c.loads--
	return c, nil
}

// confine moves every thread of this process to the cores of the load. A new
// thread begins on those of the thread that has started it.
func (c *cores) confine() error {
	if !c.apart {
		return nil
	}
	threads, err := filepath.Glob("/proc/self/task/*")
	if err != nil {
		return err
	}
	for _, thread := range threads {
		id, err := strconv.Atoi(filepath.Base(thread))
		if err != nil {
			return err
		}
		if err := unix.SchedSetaffinity(id, &c.load); err != nil {
			return fmt.Errorf("moving to the load's cores: %w", err)
		}
	}
	return nil
}

// atServer calls f on the core of the server. A process that f starts stays there,
// and its GOMAXPROCS is 1.
func (c *cores) atServer(f func() error) error {
	if !c.apart {
		return f()
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := unix.SchedSetaffinity(0, &c.server); err != nil {
		return fmt.Errorf("moving to the server's core: %w", err)
	}
	err := f()
	if back := unix.SchedSetaffinity(0, &c.load); back != nil && err == nil {
		err = fmt.Errorf("moving back to the load's cores: %w", back)
	}
	return err
}

// describe describes the machine, in one line.
func describe() string {
	model := "an unknown CPU"
	text, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(text)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			model = strings.TrimSpace(value)
			break
		}
	}
	return fmt.Sprintf("%s, %d cores, Linux %s, tcp %s, %s", model, runtime.NumCPU(),
		line("/proc/sys/kernel/osrelease"), line("/proc/sys/net/ipv4/tcp_congestion_control"), runtime.Version())
}

func line(file string) string {
	text, err := os.ReadFile(file) //nolint:gosec // of /proc
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(text))
}
