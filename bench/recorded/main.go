// Command recorded measures what it costs to record the answers of an application: many
// at once, each a token at a time, beside a plain reverse_proxy in the same run.
//
//	go run ./bench/recorded
//
// The application and the readers are in this process, Caddy in another; CPU is that of
// Caddy. Linux only, because of /proc.
package main

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/evstream/caddy-evstream/bench/internal/process"
)

const caddyfile = `{
	admin off
	persist_config off
	auto_https off
	grace_period 1s
	evstream {
		max_connections_per_ip unlimited
		connect_rate unlimited
	}
}
http://%[1]s {
	handle_path /plain/* {
		reverse_proxy %[2]s
	}
	route /recorded/* {
		evstream {
			record answers/{http.request.uri.path.1}
			allow anyone subscribe answers/*
		}
		reverse_proxy %[2]s
	}
}
`

// settings are what is measured.
type settings struct {
	answers, rate int
	duration      time.Duration
	spread        time.Duration // over which they begin
	runs          int
}

func main() {
	var s settings
	flag.IntVar(&s.answers, "answers", 1000, "answers at once")
	flag.IntVar(&s.rate, "rate", 50, "tokens a second of each")
	flag.DurationVar(&s.duration, "t", 5*time.Second, "how long each answer takes")
	flag.DurationVar(&s.spread, "spread", 0, "over how long they begin; by default all at once, so that the first bytes wait for the processor")
	flag.IntVar(&s.runs, "runs", 3, "runs of each")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := measure(ctx, s)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "recorded:", err)
		os.Exit(1)
	}
}

// model answers with tokens.
func (s settings) model(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/event-stream")
	flush := http.NewResponseController(w).Flush
	_ = flush()
	tick := time.NewTicker(time.Second / time.Duration(s.rate))
	defer tick.Stop()
	for i := range int(s.duration.Seconds() * float64(s.rate)) {
		select {
		case <-tick.C:
		case <-r.Context().Done():
			return
		}
		fmt.Fprintf(w, "data: {\"type\":\"text-delta\",\"id\":\"0\",\"delta\":\"token%d \"}\n\n", i)
		_ = flush()
	}
}

func measure(ctx context.Context, s settings) error {
	dir, err := os.MkdirTemp("", "recorded")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	app, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	server := &http.Server{Handler: http.HandlerFunc(s.model), ReadHeaderTimeout: time.Minute}
	go func() { _ = server.Serve(app) }()
	defer server.Close()

	binary := filepath.Join(dir, "caddy")
	if err := process.Build(ctx, binary); err != nil {
		return err
	}
	address, err := process.Free(ctx)
	if err != nil {
		return err
	}
	fmt.Printf("%d answers at once, %d tokens a second each, for %s\n", s.answers, s.rate, s.duration)
	fmt.Println("| | CPU a token | first byte p50 | p99 | memory |\n|---|---|---|---|---|")
	for run := range s.runs {
		kinds := []string{"plain", "recorded"}
		if run%2 == 1 {
			slices.Reverse(kinds)
		}
		for _, kind := range kinds {
			if err := s.one(ctx, kind, dir, binary, address, app.Addr().String()); err != nil {
				return err
			}
		}
	}
	return nil
}

// one measures one run, with a Caddy of its own.
func (s settings) one(ctx context.Context, kind, dir, binary, address, app string) error {
	config := filepath.Join(dir, "Caddyfile")
	if err := os.WriteFile(config, fmt.Appendf(nil, caddyfile, address, app), 0o600); err != nil {
		return err
	}
	caddy := exec.CommandContext(ctx, binary, "run", "--config", config) //nolint:gosec // what it has built
	caddy.Env = append(os.Environ(), "XDG_DATA_HOME="+dir, "XDG_CONFIG_HOME="+dir)
	if err := caddy.Start(); err != nil {
		return err
	}
	defer func() { _ = caddy.Process.Kill(); _ = caddy.Wait() }()
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: s.answers}}
	defer client.CloseIdleConnections()
	url := "http://" + address + "/" + kind + "/"
	for {
		resp, err := client.Get("http://" + address + "/")
		if err == nil {
			resp.Body.Close()
			break
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
	began, err := cpuOf(caddy.Process.Pid)
	if err != nil {
		return err
	}
	var readers sync.WaitGroup
	var tokens atomic.Int64
	first := make([]time.Duration, s.answers)
	failed := make(chan error, s.answers)
	for i := range s.answers {
		begins := time.After(s.spread * time.Duration(i) / time.Duration(s.answers))
		readers.Go(func() {
			<-begins
			if err := read(ctx, client, url+strconv.Itoa(i), &tokens, &first[i]); err != nil {
				failed <- err
			}
		})
	}
	var most int
	done := make(chan struct{})
	var watch sync.WaitGroup
	watch.Go(func() {
		tick := time.NewTicker(200 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				most = max(most, memoryOf(caddy.Process.Pid))
			case <-done:
				return
			}
		}
	})
	readers.Wait()
	close(done)
	watch.Wait()
	close(failed)
	if err := <-failed; err != nil {
		return err
	}
	ended, err := cpuOf(caddy.Process.Pid)
	if err != nil {
		return err
	}
	if want := int64(s.answers) * int64(s.duration.Seconds()*float64(s.rate)); tokens.Load() != want {
		return fmt.Errorf("%d tokens have come, want %d", tokens.Load(), want)
	}
	slices.Sort(first)
	fmt.Printf("| %s | %.1f µs | %.2f ms | %.2f ms | %d MiB |\n", kind, float64((ended-began).Microseconds())/float64(tokens.Load()),
		ms(first[len(first)/2]), ms(first[len(first)*99/100]), most>>10)
	return nil
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// read reads one answer to its end.
func read(ctx context.Context, client *http.Client, url string, tokens *atomic.Int64, first *time.Duration) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader("{}"))
	if err != nil {
		return err
	}
	began := time.Now()
	resp, err := client.Do(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		why, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<10))
		return fmt.Errorf("%s is answered %s: %s", url, resp.Status, why)
	}
	*first = time.Since(began)
	lines := bufio.NewReader(resp.Body)
	for {
		line, err := lines.ReadString('\n')
		if strings.HasPrefix(line, "data:") {
			tokens.Add(1)
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// cpuOf is the CPU time of a process.
func cpuOf(pid int) (time.Duration, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+2:]))
	user, err1 := strconv.Atoi(fields[11])
	system, err2 := strconv.Atoi(fields[12])
	if err1 != nil || err2 != nil {
		return 0, fmt.Errorf("reading the CPU time: %s", text)
	}
	return time.Duration(user+system) * (time.Second / 100), nil
}

// memoryOf is the resident memory of a process in KiB.
func memoryOf(pid int) int {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	_, after, _ := strings.Cut(string(text), "VmRSS:")
	kib, _ := strconv.Atoi(strings.Fields(after + " 0")[0])
	return kib
}
