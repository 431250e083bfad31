//go:build linux

package main

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Shares of a core above which others than the server may bound a figure.
const (
	loadIsBusy     = 0.9
	muchIsStolen   = 0.05
	othersAreHeard = 0.15
)

// meter measures what a part of a run uses. It is started and stopped on the thread
// that serves the sockets of the load.
type meter struct {
	pid   int // the server's
	cores int // that the load has
	at    clocks
}

// clocks are readings of the clocks of this machine.
type clocks struct {
	wall   time.Duration
	server time.Duration // run by the server's process
	load   time.Duration // by this process
	thread time.Duration // by this thread
	busy   time.Duration // by all processes
	stolen time.Duration // by the machine's host, for others
}

// usage is what a part of a run has used. Shares are of a core.
type usage struct {
	wall     time.Duration
	server   time.Duration // CPU
	loadBusy float64
	stolen   float64
	others   float64
}

func startMeter(pid, cores int) *meter { return &meter{pid, cores, readClocks(pid)} }

func (m *meter) stop() usage {
	now := readClocks(m.pid)
	wall := now.wall - m.at.wall
	share := func(d time.Duration) float64 { return float64(d) / float64(wall) }
	server, load := now.server-m.at.server, now.load-m.at.load
	return usage{
		wall:     wall,
		server:   server,
		loadBusy: max(share(now.thread-m.at.thread), share(load)/float64(m.cores)),
		stolen:   share(now.stolen - m.at.stolen),
		others:   max(0, share(now.busy-m.at.busy-server-load)),
	}
}

// busy is the share of a core that the server has used.
func (u usage) busy() float64 { return float64(u.server) / float64(u.wall) }

// warnings say why others than the server may have bounded the figures.
func warnings(usages []usage) []string {
	var w []string
	warn := func(what string, most float64, of func(usage) float64) {
		over, worst := 0, 0.0
		for _, u := range usages {
			if share := of(u); share > most {
				over++
				worst = max(worst, share)
			}
		}
		if over > 0 {
			w = append(w, fmt.Sprintf("%s: up to %.0f %% of a core, in %d of %d measurements", what, 100*worst, over, len(usages)))
		}
	}
	warn("the load was busy and may have been the limit", loadIsBusy, func(u usage) float64 { return u.loadBusy })
	warn("the machine's host gave time to others", muchIsStolen, func(u usage) float64 { return u.stolen })
	warn("other processes ran", othersAreHeard, func(u usage) float64 { return u.others })
	return w
}

func readClocks(pid int) clocks {
	c := clocks{
		wall:   clock(unix.CLOCK_MONOTONIC),
		server: clock(processClock(pid)),
		load:   clock(unix.CLOCK_PROCESS_CPUTIME_ID),
		thread: clock(unix.CLOCK_THREAD_CPUTIME_ID),
	}
	c.busy, c.stolen = machineTimes()
	return c
}

// processClock is the clock of all threads of a process, also of those that
// have ended, to the nanosecond: what clock_getcpuclockid(3) returns.
func processClock(pid int) int32 { return int32(^pid)<<3 | 2 }

func clock(id int32) time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(id, &t); err != nil {
		return 0 // the process has ended, so that the run fails elsewhere
	}
	return time.Duration(t.Nano())
}

// machineTimes are the times of all cores since the machine was started.
func machineTimes() (busy, stolen time.Duration) {
	const tick = 10 * time.Millisecond // the unit of /proc/stat
	text, _ := os.ReadFile("/proc/stat")
	total, _, _ := bytes.Cut(text, []byte("\n"))
	fields := strings.Fields(string(total))
	at := func(i int) time.Duration {
		if i >= len(fields) {
			return 0
		}
		n, _ := strconv.ParseInt(fields[i], 10, 64)
		return time.Duration(n) * tick
	}
	return at(1) + at(2) + at(3), at(8) // user, nice and system; steal
}

// resident is the resident memory of a process, in bytes.
func resident(pid int) (float64, error) {
	file := fmt.Sprintf("/proc/%d/smaps_rollup", pid)
	text, err := os.ReadFile(file) //nolint:gosec // of /proc
	if err != nil {
		return 0, fmt.Errorf("reading the server's memory: %w", err)
	}
	for line := range strings.Lines(string(text)) {
		if fields := strings.Fields(line); len(fields) > 1 && fields[0] == "Rss:" {
			kb, err := strconv.ParseFloat(fields[1], 64)
			return kb * 1024, err
		}
	}
	return 0, fmt.Errorf("%s has no line Rss", file)
}
