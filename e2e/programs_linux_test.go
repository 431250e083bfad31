package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/evstream/caddy-evstream/internal/redistest"
)

// TestProgramsGetEveryEventOnceOverACut follows a stream with curl and with Python's
// standard library, as clients/ does with all that others wrote.
func TestProgramsGetEveryEventOnceOverACut(t *testing.T) {
	t.Parallel()
	s := start(t, config("", `
	evstream /live/* {
		allow anyone all **
		heartbeat 1s
	}
`))
	for name, program := range map[string][]string{
		"curl":                      {"bash", "curl.sh"},
		"Python's standard library": {"python3", "stdlib.py"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			way := redistest.StartProxy(t, s.plain)
			file, err := filepath.Abs(filepath.Join("..", "clients", "other", program[1]))
			if err != nil {
				t.Fatal(err)
			}
			cmd := exec.Command(program[0], file, "http://"+way.Addr()+"/live/"+program[1])
			cmd.Dir = t.TempDir()
			cmd.SysProcAttr = mortal()
			cmd.SysProcAttr.Setpgid = true
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			heard := &programOutput{}
			done := make(chan struct{})
			go func() {
				defer close(done)
				heard.read(out)
			}()
			t.Cleanup(func() {
				_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // what it runs, too
				<-done
				_ = cmd.Wait()
			})
			p := &publisher{client: plainClient(t), base: "http://" + s.plain + "/live"}
			publish := func() {
				t.Helper()
				for range 5 {
					if err := p.publish(program[1]); err != nil {
						t.Fatal(err)
					}
				}
			}
			heard.await(t, "the opening event", 1)
			publish()
			heard.await(t, "the first events", p.last+1)
			way.Cut()
			publish()
			way.Heal()
			heard.await(t, "those of the cut", p.last+2) // and another opening event
			publish()
			heard.await(t, "the last events", p.last+2)
			var want []string
			for n := range p.last {
				want = append(want, fmt.Sprint(n+1))
			}
			if got := heard.published(); !slices.Equal(got, want) {
				t.Errorf("got %q, want %q", got, want)
			}
			if strings.Contains(heard.notes(), "exits with 0") {
				t.Errorf("a stream that is cut looks like one that ends: %s", heard.notes())
			}
		})
	}
}

// programOutput is what one of clients/other has dispatched.
type programOutput struct {
	mu    sync.Mutex
	heard []programLine
}

type programLine struct{ Type, ID, Data, Note string }

func (o *programOutput) read(r io.Reader) {
	for lines := json.NewDecoder(r); ; {
		var line programLine
		if lines.Decode(&line) != nil {
			return
		}
		o.mu.Lock()
		o.heard = append(o.heard, line)
		o.mu.Unlock()
	}
}

// await waits until so many events have come, also those of the hub.
func (o *programOutput) await(t *testing.T, what string, n int) {
	t.Helper()
	eventually(t, what, func() bool {
		o.mu.Lock()
		defer o.mu.Unlock()
		events := 0
		for _, line := range o.heard {
			if line.Note == "" && line.Type != "evstream.at" {
				events++
			}
		}
		return events >= n
	})
}

// published returns the data of all events but those of the hub.
func (o *programOutput) published() (data []string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, line := range o.heard {
		if line.Note == "" && !strings.HasPrefix(line.Type, "evstream.") {
			data = append(data, line.Data)
		}
	}
	return data
}

func (o *programOutput) notes() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	var notes []string
	for _, line := range o.heard {
		if line.Note != "" {
			notes = append(notes, line.Note)
		}
	}
	return strings.Join(notes, ", ")
}
