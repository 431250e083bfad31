//go:build linux

package process

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Process is a Caddy in a process of its own, on one core.
type Process struct {
	cmd   *exec.Cmd
	admin http.Client
}

// Start starts a command in an environment of its own, with files in dir, and waits until it
// listens at an address. The socket of Caddy's admin endpoint is dir/admin.
func Start(ctx context.Context, cmd *exec.Cmd, dir, address string) (*Process, error) {
	cmd.Env = append(cmd.Environ(), "HOME="+dir, "XDG_DATA_HOME="+dir, "XDG_CONFIG_HOME="+dir, "GOMAXPROCS=1")
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	p := &Process{cmd: cmd}
	p.admin.Transport = &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", filepath.Join(dir, "admin"))
	}}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
		if err == nil {
			return p, conn.Close()
		}
		if time.Now().After(deadline) {
			p.Stop()
			return nil, fmt.Errorf("starting Caddy: %w", err)
		}
	}
}

// Stop ends the process.
func (p *Process) Stop() {
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait()
}

// Ask asks Caddy for a profile.
func (p *Process) Ask(query string) ([]byte, error) {
	answer, err := p.admin.Get("http://127.0.0.1/debug/pprof/" + query)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	return io.ReadAll(answer.Body)
}

// CPU is the time that the process has run.
func (p *Process) CPU() time.Duration {
	tasks, _ := filepath.Glob(p.file("task/*/schedstat"))
	var total time.Duration
	for _, task := range tasks {
		stat, _ := os.ReadFile(task) //nolint:gosec // of the kernel
		if fields := bytes.Fields(stat); len(fields) > 0 {
			n, _ := strconv.ParseInt(string(fields[0]), 10, 64)
			total += time.Duration(n)
		}
	}
	return total
}

// Resident is the resident memory in bytes: now, and the most since Forget.
func (p *Process) Resident() (now, most float64) {
	status, _ := os.ReadFile(p.file("status"))
	for line := range strings.Lines(string(status)) {
		name, value, _ := strings.Cut(line, ":")
		var kb float64
		switch name {
		case "VmRSS":
			_, _ = fmt.Sscan(value, &kb)
			now = kb * 1024
		case "VmHWM":
			_, _ = fmt.Sscan(value, &kb)
			most = kb * 1024
		}
	}
	return now, most
}

// Forget has the most be what is resident now.
func (p *Process) Forget() error { return os.WriteFile(p.file("clear_refs"), []byte("5"), 0) }

func (p *Process) file(name string) string {
	return fmt.Sprintf("/proc/%d/%s", p.cmd.Process.Pid, name)
}
