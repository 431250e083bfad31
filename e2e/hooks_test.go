package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// readerEnv makes a process of this test binary one that reads a stream until it is
// killed: it is the protocol, "|" and the URL.
const readerEnv = "EVSTREAM_E2E_READER"

// readStream is such a process: it writes the session of its stream in a line.
func readStream(arguments string) error {
	proto, url, _ := strings.Cut(arguments, "|")
	t := &testing.T{} // cleanups never run: the process is killed
	r, err := connect(context.Background(), protocol(proto).client(t), url)
	if err != nil {
		return err
	}
	for {
		e, err := r.events.Next()
		if err != nil {
			return err
		}
		if e.Type != "evstream.open" {
			continue
		}
		var open struct{ Session string }
		if err := json.Unmarshal(e.Data, &open); err != nil {
			return err
		}
		fmt.Println(open.Session)
	}
}

// startReader runs such a process, and returns its session.
func startReader(t *testing.T, proto protocol, url string) (reader *exec.Cmd, session string) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), readerEnv+"="+string(proto)+"|"+url)
	cmd.Stderr, cmd.SysProcAttr = os.Stderr, mortal()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	lines := bufio.NewScanner(out)
	if !lines.Scan() {
		t.Fatal("the reader does not begin")
	}
	return cmd, lines.Text()
}

// What the seeds did with onClose: the number of who is there goes down when a client's
// process is killed, with an application that is told, and without one by a value that is
// bound to the session. Over HTTP/3 the kernel says nothing for a process that has died:
// the connection has to be idle for long enough.
func TestAKilledClientIsCountedDown(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	online := make(map[string]bool)
	var s *server
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var e struct {
			Type string
			Data struct {
				Session  string
				Channels []string
			}
		}
		if err := json.NewDecoder(r.Body).Decode(&e); err != nil {
			t.Error(err)
		}
		mu.Lock()
		defer mu.Unlock()
		if e.Type == "evstream.connected" {
			online[e.Data.Session] = true
		} else {
			delete(online, e.Data.Session)
		}
		if err := setValue("http://"+s.plain+"/live/user-count", strconv.Itoa(len(online))); err != nil {
			t.Error(err)
		}
	}))
	t.Cleanup(app.Close)
	mu.Lock() // the application reads s
	s = start(t, config("\tevstream {\n\t\ton connected disconnected "+app.URL+"/hooks\n\t}\n", stateSite))
	mu.Unlock()
	count := func() string { return value(t, s, "user-count") }

	protocols := []protocol{plainH1, attachedH1, tlsH2, tlsH3}
	readers := make([]*exec.Cmd, len(protocols))
	for i, proto := range protocols {
		var session string
		readers[i], session = startReader(t, proto, proto.url(s, "/live/page"))
		if err := setValue(fmt.Sprintf("http://%s/live/here.%d?session=%s", s.plain, i, session), "true"); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "all to be counted", func() bool { return count() == "4" })
	for i, proto := range protocols {
		if err := readers[i].Process.Kill(); err != nil {
			t.Fatal(err)
		}
		want := strconv.Itoa(len(protocols) - 1 - i)
		eventually(t, fmt.Sprintf("the reader over %s to be counted down", proto), func() bool {
			return count() == want && value(t, s, fmt.Sprintf("here.%d", i)) == ""
		})
	}
}

// value is the value of a channel; "" if it has none.
func value(t *testing.T, s *server, channel string) string {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+s.plain+"/live/"+channel, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Accept", "application/json")
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var v json.RawMessage
	if resp.StatusCode != http.StatusOK || json.NewDecoder(resp.Body).Decode(&v) != nil {
		return ""
	}
	return string(v)
}

// setValue sets a value.
func setValue(url, value string) error {
	r, err := http.NewRequest(http.MethodPut, url, strings.NewReader(value))
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode/100 != 2 {
		return errors.New(resp.Status)
	}
	return nil
}
