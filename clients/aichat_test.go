package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

// chatExample is examples/ai-chat as its run.sh starts it.
type chatExample struct {
	site, app string
	process   *exec.Cmd
}

func startChat(t *testing.T, env ...string) chatExample {
	t.Helper()
	c := chatExample{site: free(t), app: free(t)}
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS("../examples/ai-chat")); err != nil {
		t.Fatal(err)
	}
	modules, err := filepath.Abs("../bin/clients/node_modules")
	if err != nil {
		t.Fatal(err)
	}
	_ = os.RemoveAll(filepath.Join(dir, "node_modules")) // of one who tries the example here
	if err := os.Symlink(modules, filepath.Join(dir, "node_modules")); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(dir, "Caddyfile"))
	if err != nil {
		t.Fatal(err)
	}
	edited := strings.NewReplacer("localhost:3000", c.app, "localhost:8080", c.site).Replace(string(text))
	edited = "{\n\tadmin off\n\tpersist_config off\n\tgrace_period 5s\n}\n" + edited
	if err := os.WriteFile(filepath.Join(dir, "Caddyfile"), []byte(edited), 0o600); err != nil {
		t.Fatal(err)
	}
	home := t.TempDir()
	cmd := command(context.Background(), dir, "sh", "run.sh")
	cmd.Env = append(os.Environ(), "HOME="+home, "XDG_DATA_HOME="+home, "XDG_CONFIG_HOME="+home,
		"CADDY="+made(t, "caddy-clients"), "PORT="+strings.TrimPrefix(c.app, "localhost:"))
	cmd.Env = append(cmd.Env, env...)
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	c.process = cmd
	t.Cleanup(func() { _ = cmd.Cancel(); _ = cmd.Wait() })
	eventually(t, "the example to start", func() bool {
		resp, err := http.Get("http://" + c.site + "/api/model")
		if err == nil {
			resp.Body.Close()
		}
		return err == nil && resp.StatusCode == http.StatusOK
	})
	return c
}

// model is what the model says of itself.
type model struct{ Asked, Finished, Cut int }

func (c chatExample) model(t *testing.T) (m model) {
	t.Helper()
	resp, err := http.Get("http://" + c.app + "/api/model")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(&m); err != nil {
		t.Fatal(err)
	}
	return m
}

const (
	chatAnswers = `Array.from(document.querySelectorAll("article[data-role=assistant]"), a => a.textContent)`
	chatStatus  = `document.querySelector("main")?.dataset.status ?? ""`
)

// words is how many words of an answer the page shows. It fails if they are not those
// from 1 on, each once.
func words(t *testing.T, d *device) int {
	t.Helper()
	answers := eval[[]string](t, d, chatAnswers)
	if len(answers) == 0 {
		return 0
	}
	if len(answers) > 1 {
		t.Fatalf("the page shows %d answers: %q", len(answers), answers)
	}
	list := strings.Fields(answers[0])
	for i, word := range list {
		if word != strconv.Itoa(i+1) {
			t.Fatalf("word %d is %q: %q", i+1, word, answers[0])
		}
	}
	return len(list)
}

func atLeast(t *testing.T, d *device, n int) {
	t.Helper()
	eventually(t, fmt.Sprintf("%d words", n), func() bool { return words(t, d) >= n })
}

func finished(t *testing.T, d *device, n int) {
	t.Helper()
	eventually(t, "the answer to end", func() bool {
		return eval[string](t, d, chatStatus) == "ready" && words(t, d) >= n
	})
	if got := words(t, d); got != n {
		t.Errorf("the page ends with %d words, not %d", got, n)
	}
}

func press(t *testing.T, d *device, button string) {
	t.Helper()
	eventually(t, button+" to be enabled", func() bool {
		return eval[bool](t, d, `(b => !!b && !b.disabled && (b.click(), true))(document.querySelector("`+button+`"))`)
	})
}

// The answer has 500 words, 20 ms each. The reader is in its way what a reader can be.
func TestAnAnswerSurvivesReloadsCutsAndASecondDevice(t *testing.T) {
	chat := startChat(t)
	network := newCutter(t, chat.site)
	chromium := openChromium(t)
	first := newDevice(t, chromium, "http://"+network.address+"/?chat=survives")
	press(t, first, "form button")
	for _, n := range []int{20, 70, 120} {
		atLeast(t, first, n)
		do(t, first, chromedp.Reload())
	}
	atLeast(t, first, 150)
	network.cut()
	eventually(t, "the page to notice", func() bool { return eval[string](t, first, chatStatus) == "cut" })
	network.mend()
	atLeast(t, first, 210)
	second := newDevice(t, chromium, "http://"+chat.site+"/?chat=survives")
	atLeast(t, second, 220)
	do(t, first, chromedp.Reload())
	atLeast(t, first, 300)
	network.cut()
	eventually(t, "the page to notice", func() bool { return eval[string](t, first, chatStatus) == "cut" })
	network.mend()
	atLeast(t, first, 380)
	do(t, first, chromedp.Reload())
	finished(t, first, 500)
	finished(t, second, 500)
	if got := chat.model(t); got != (model{Asked: 1, Finished: 1}) {
		t.Errorf("the model was %+v", got)
	}

	// A page that is opened later has the answer as well, from the application and from
	// the hub: it shows it once.
	third := newDevice(t, chromium, "http://"+chat.site+"/?chat=survives")
	finished(t, third, 500)
}

func TestStopFromAnotherDeviceHangsUp(t *testing.T) {
	chat := startChat(t)
	chromium := openChromium(t)
	first := newDevice(t, chromium, "http://"+chat.site+"/?chat=stops")
	press(t, first, "form button")
	atLeast(t, first, 20)
	second := newDevice(t, chromium, "http://"+chat.site+"/?chat=stops")
	atLeast(t, second, 40)
	var took time.Duration
	for stops := 1; stops <= 3; stops++ { // on a busy machine a browser alone may need a second, but not each time
		press(t, second, "#stop")
		pressed := time.Now()
		for _, d := range []*device{first, second} {
			eventually(t, "the answer to end", func() bool { return eval[string](t, d, chatStatus) == "ready" })
		}
		eventually(t, "the model to notice", func() bool { return chat.model(t).Cut == stops })
		took = time.Since(pressed)
		had := words(t, second)
		if had < 40 || had >= 500 || stops == 1 && words(t, first) != had {
			t.Errorf("the first shows %d words, the second %d", words(t, first), had)
		}
		if got := chat.model(t); got != (model{Asked: stops, Cut: stops}) {
			t.Errorf("the model was %+v", got)
		}
		// The same question once more is another answer.
		press(t, second, "#retry")
		eventually(t, "the model to be asked once more", func() bool { return chat.model(t).Asked == stops+1 })
		if atLeast(t, second, had+1); took <= time.Second {
			return
		}
	}
	t.Errorf("stopping took %v", took)
}

// Who had the connection sees it break, comes back, and is told as all others are.
func TestPagesAreToldThatTheApplicationDied(t *testing.T) {
	chat := startChat(t)
	chromium := openChromium(t)
	first := newDevice(t, chromium, "http://"+chat.site+"/?chat=dies")
	press(t, first, "form button")
	atLeast(t, first, 20)
	second := newDevice(t, chromium, "http://"+chat.site+"/?chat=dies")
	atLeast(t, second, 40)
	out, err := exec.Command("pgrep", "-P", strconv.Itoa(chat.process.Process.Pid), "node").Output()
	if err != nil {
		t.Fatal(err)
	}
	node, err := strconv.Atoi(strings.TrimSpace(string(out)))
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(node, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	for _, d := range []*device{first, second} {
		eventually(t, "the page to tell", func() bool {
			return eval[string](t, d, `document.querySelector("p[role=alert]")?.textContent ?? ""`) == "the answer was cut off"
		})
		if got := words(t, d); got < 40 || got >= 500 {
			t.Errorf("the page shows %d words", got)
		}
	}
}

// Each question of a chat has a run of its own: who comes back sees the answers that the
// application has stored, and the one that is going on.
func TestAChatGoesOnAfterAnAnswer(t *testing.T) {
	chat := startChat(t, "WORDS=40", "PACE=10")
	chromium := openChromium(t)
	page := newDevice(t, chromium, "http://"+chat.site+"/?chat=goes-on")
	press(t, page, "form button")
	finished(t, page, 40)
	press(t, page, "form button")
	all := func(d *device, n int) {
		t.Helper()
		whole := make([]string, 40)
		for i := range whole {
			whole[i] = strconv.Itoa(i + 1)
		}
		eventually(t, fmt.Sprintf("%d answers", n), func() bool {
			answers := eval[[]string](t, d, chatAnswers)
			return len(answers) == n && answers[n-1] == strings.Join(whole, " ") && answers[0] == answers[n-1] && eval[string](t, d, chatStatus) == "ready"
		})
	}
	eventually(t, "the second answer to begin", func() bool { return len(eval[[]string](t, page, chatAnswers)) == 2 })
	do(t, page, chromedp.Reload())
	all(page, 2)
	all(newDevice(t, chromium, "http://"+chat.site+"/?chat=goes-on"), 2)
	if got := chat.model(t); got != (model{Asked: 2, Finished: 2}) {
		t.Errorf("the model was %+v", got)
	}
}

// What a newcomer installs is what is tested.
func TestTheExampleNamesTheVersionsThatAreTested(t *testing.T) {
	read := func(file string, v any) {
		t.Helper()
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(text, v); err != nil {
			t.Fatal(err)
		}
	}
	var example struct{ Dependencies map[string]string }
	read("../examples/ai-chat/package.json", &example)
	for name, version := range example.Dependencies {
		var installed struct{ Version string }
		read("../bin/clients/node_modules/"+name+"/package.json", &installed)
		if installed.Version != version {
			t.Errorf("%s: the example has %s, scripts/clients.sh %s", name, version, installed.Version)
		}
	}
}
