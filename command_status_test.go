package evstream

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// Commands that look at a server say by their exit status whether they could.
func TestCommandsExitWithTheirStatus(t *testing.T) {
	stream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/stream" {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = fmt.Fprint(w, "data: 1\n\n")
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	}))
	t.Cleanup(stream.Close)
	for _, tt := range []struct {
		name, args string
		status     int
		out, err   string // of stdout and stderr
	}{
		{"no problem", "doctor --idle 0 " + stream.URL + "/stream", 0, "no problem", ""},
		{"a problem", "doctor --idle 0 --origin https://app.example " + stream.URL + "/stream", 1, "1 problem", ""},
		{"no stream", "doctor --idle 0 " + stream.URL + "/", 2, "", "cannot be examined"},
		{"nobody there", "doctor --idle 0 http://127.0.0.1:1/", 2, "", "cannot be examined"},
		{"no URL", "doctor", 2, "", "doctor takes one URL"},
		{"no scheme", "doctor example.com/live/", 2, "", "has no scheme"},
		{"listening", "bench -n 2 -d 100ms --warmup 0 " + stream.URL + "/stream", 0, "2 of 2", ""},
		{"all is lost", "bench -n 2 -d 100ms --warmup 0 --rate 0 --publish " + stream.URL + "/ " + stream.URL + "/stream", 1, "publishing is answered 404", ""},
		{"no stream to load", "bench -n 2 " + stream.URL + "/", 2, "", "no stream began: it answers 404"},
		{"no number of streams", "bench -n 0 " + stream.URL + "/stream", 2, "", "--subscribers is 1 to 200000, not 0"},
		{"a flag that there is not", "doctor --idel 0 http://127.0.0.1:1/", 2, "", "unknown flag: --idel"},
		{"a value out of range", "doctor --late 1h http://127.0.0.1:1/", 2, "", "--late is 100ms to 30s"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			cmd := exec.CommandContext(t.Context(), os.Args[0], append([]string{"evstream"}, strings.Fields(tt.args)...)...)
			cmd.Env = append(os.Environ(), "EVSTREAM_TEST_CADDY=1")
			var out, told strings.Builder
			cmd.Stdout, cmd.Stderr = &out, &told
			err := cmd.Run()
			if exit, ok := errors.AsType[*exec.ExitError](err); err != nil && !ok {
				t.Fatal(err)
			} else if ok != (tt.status != 0) || ok && exit.ExitCode() != tt.status {
				t.Errorf("exit status: %v, want %d", err, tt.status)
			}
			if !strings.Contains(out.String(), tt.out) || !strings.Contains(told.String(), tt.err) || tt.err == "" && strings.Contains(told.String(), "Error") {
				t.Errorf("got %q and %q, want %q and %q", out.String(), told.String(), tt.out, tt.err)
			}
			if strings.Count(told.String(), "Error:") > 1 {
				t.Errorf("it says so twice: %s", told.String())
			}
		})
	}
}
