package evstream

import (
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/evstream/caddy-evstream/internal/redistest"
	"github.com/evstream/caddy-evstream/runs"
)

// recordProcess is a Caddy that records the answers of an application.
func recordProcess(t *testing.T, address, app, global string) *caddyProcess {
	t.Helper()
	p := startCaddy(t, func(admin string) string {
		return strings.Replace(recordSite(address, app, ""), options(""), "{\n\tadmin "+admin+"\n\tpersist_config off\n\tauto_https off\n"+global+"\n}\n", 1)
	})
	awaitReady(t, p.admin)
	return p
}

const cutOff = "data: {\"type\":\"error\",\"errorText\":\"the answer was cut off\"}\n\ndata: [DONE]\n\n"

// A reload keeps a run that is going on, its first reader and others, and the new
// configuration serves and stops it.
func TestAReloadKeepsARecordedAnswer(t *testing.T) {
	m := newModel(t)
	address := freeAddress(t)
	load(t, recordSite(address, m.URL, ""))
	url := "http://" + address + "/api/chat/7"
	first := begun(t, m, url, "{}")
	second := get(t, url)
	if err := reload(t, recordSite(address, m.URL, "keep 2h")); err != nil {
		t.Fatal(err)
	}
	third := get(t, url)
	m.tokens <- "two"
	if err := reload(t, recordSite(address, m.URL, "keep 2h")+"\n# again"); err != nil {
		t.Fatal(err)
	}
	m.tokens <- "three"
	close(m.tokens)
	want := "data: two\n\ndata: three\n\n"
	if got := rest(t, first.Body); got != want {
		t.Errorf("the first reader got %q", got)
	}
	for _, r := range []*http.Response{second, third} {
		if got := rest(t, r.Body); got != "data: one\n\n"+want {
			t.Errorf("a reader got %q", got)
		}
	}
	if m.asked.Load() != 1 || recordedState(t, "chat/7") != runs.Done {
		t.Errorf("asked %d times, it is %q", m.asked.Load(), recordedState(t, "chat/7"))
	}
}

// An exit cuts a run off, says so, and does not wait for the application. With a log on
// the disk it is there afterwards, and so is one whose Caddy was killed.
func TestARecordedAnswerOutlivesCaddy(t *testing.T) {
	for _, kill := range []bool{false, true} {
		t.Run(fmt.Sprintf("killed=%v", kill), func(t *testing.T) {
			m, done := newModel(t), newModel(t)
			address, dir := freeAddress(t), filepath.Join(t.TempDir(), "log")
			p := recordProcess(t, address, m.URL, bolt(dir, ""))
			url := "http://" + address + "/api/chat/"
			first := begun(t, m, url+"7", "{}")
			eventuallyGets(t, url+"7?startIndex=0", "data: one\n\n")
			if kill {
				_ = p.cmd.Process.Kill()
				<-p.ended
				p.ended <- nil
			} else {
				p.stop()
			}
			if got, err := io.ReadAll(first.Body); err == nil {
				t.Errorf("the first reader got a clean end after %q", got)
			}
			eventually(t, "the application to be free", func() bool { return m.open.Load() == 0 })
			recordProcess(t, address, done.URL, bolt(dir, ""))
			if got := rest(t, get(t, url+"7").Body); got != "data: one\n\n"+cutOff {
				t.Errorf("kept: %q", got)
			}
		})
	}
}

// eventuallyGets waits for the first bytes of a stream to be a text.
func eventuallyGets(t *testing.T, url, text string) {
	t.Helper()
	eventually(t, text, func() bool {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := client.Do(r)
		if err != nil {
			return false
		}
		defer resp.Body.Close()
		got := make([]byte, 200)
		n, _ := io.ReadAtLeast(resp.Body, got, len(text))
		return resp.StatusCode == 200 && strings.Contains(withoutIDs(string(got[:n])), text)
	})
}

// Two nodes over one Redis: any of them serves and stops an answer, and where the one that
// records it dies the other says so within ten seconds or so.
func TestRecordedAnswersOfTwoNodes(t *testing.T) {
	t.Parallel() // it waits for the lease
	server := redistest.Start(t)
	m := newModel(t)
	a, b := freeAddress(t), freeAddress(t)
	global := "\tevstream {\n" + sharedBy(server.Addr(), "") + "\t}\n"
	dies := recordProcess(t, a, m.URL, global)
	recordProcess(t, b, m.URL, global)
	begun(t, m, "http://"+a+"/api/chat/7", "{}")
	eventuallyGets(t, "http://"+b+"/api/chat/7", "data: one\n\n")
	other := prompt(t, "http://"+b+"/api/chat/7", "{}") // joins

	stopped := prompt(t, "http://"+a+"/api/chat/8", "{}")
	m.tokens <- "two" // to either: both ask the same application
	m.tokens <- "two"
	eventuallyGets(t, "http://"+b+"/api/chat/8?startIndex=0", "")
	if status, body := send(t, http.MethodDelete, "http://"+b+"/api/chat/8?stop", ""); status != http.StatusNoContent {
		t.Errorf("stopping at the other node: %d %s", status, body)
	}
	if got := rest(t, stopped.Body); !strings.HasSuffix(got, "data: {\"type\":\"abort\"}\n\ndata: [DONE]\n\n") {
		t.Errorf("who reads what was stopped got %q", got)
	}

	_ = dies.cmd.Process.Kill()
	<-dies.ended
	dies.ended <- nil
	if got := rest(t, other.Body); !strings.HasPrefix(got, "data: one\n\n") || !strings.HasSuffix(got, cutOff) {
		t.Errorf("who reads at the other node got %q", got)
	}
	if n := m.asked.Load(); n != 2 {
		t.Errorf("the application was asked %d times", n)
	}
}
