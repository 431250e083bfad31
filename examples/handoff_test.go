package examples

import (
	"bufio"
	"context"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
)

func free(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// The application that is nothing but Python signs users in, hands their streams over, and
// publishes to rooms.
func TestAPythonApplicationHandsOver(t *testing.T) {
	at := map[string]string{"SITE": free(t), "ADMIN": free(t), "APP": free(t)}
	for name, value := range at {
		t.Setenv(name, value)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	app := exec.CommandContext(ctx, "python3", "app.py")
	app.Dir = "handoff"
	app.Stdout, app.Stderr = os.Stderr, os.Stderr
	if err := app.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = app.Process.Kill(); _ = app.Wait() })

	text, err := os.ReadFile("handoff/Caddyfile")
	if err != nil {
		t.Fatal(err)
	}
	config, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(strings.Replace(string(text), "{\n", "{\n\tpersist_config off\n", 1)), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := caddy.Load(config, true); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = caddy.Stop() })

	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	base := "http://" + at["SITE"]
	client := &http.Client{Jar: jar}
	do := func(method, path, media, body string) *http.Response {
		t.Helper()
		r, err := http.NewRequestWithContext(ctx, method, base+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", media)
		resp, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { resp.Body.Close() })
		return resp
	}
	looks := time.NewTicker(10 * time.Millisecond)
	defer looks.Stop()
	for do("GET", "/football/a", "", "").StatusCode != http.StatusUnauthorized { // 502 until the application listens
		select {
		case <-looks.C:
		case <-ctx.Done():
			t.Fatal("the application does not answer")
		}
	}
	const form = "application/x-www-form-urlencoded"
	if resp := do("POST", "/login", form, url.Values{"user": {"Zoë"}}.Encode()); resp.StatusCode != http.StatusNoContent {
		t.Fatal("signing in:", resp.Status)
	}
	if resp := do("GET", "/football/a,cricket", "", ""); resp.StatusCode != http.StatusNotFound {
		t.Error("two rooms at once:", resp.Status)
	}
	football, cricket := do("GET", "/football/arsenal-vs-chelsea", "", ""), do("GET", "/cricket/ind-vs-aus", "", "")
	emit := func(path, body string) {
		t.Helper()
		if resp := do("POST", path, "application/json", body); resp.StatusCode != http.StatusNoContent {
			t.Error(path, resp.Status)
		}
	}
	emit("/football/arsenal-vs-chelsea?event=score_update", `{"homeScore":2}`)
	emit("/cricket/ind-vs-aus?event=wicket", `{"totalWickets":3}`)
	emit("/football/all?event=announcement", `{"message":"soon"}`)
	emit("/cricket/all?event=announcement", `{"message":"rain"}`)
	for _, tt := range []struct {
		resp *http.Response
		want string
	}{
		{football, `{"user": "Zo\u00eb"} {"homeScore":2} {"message":"soon"}`},
		{cricket, `{"user": "Zo\u00eb"} {"totalWickets":3} {"message":"rain"}`},
	} {
		var got []string
		for lines := bufio.NewScanner(tt.resp.Body); len(got) < 3 && lines.Scan(); {
			if data, ok := strings.CutPrefix(lines.Text(), "data: "); ok && !strings.Contains(data, "channels") {
				got = append(got, data)
			}
		}
		if all := strings.Join(got, " "); all != tt.want {
			t.Errorf("%s got %s", tt.resp.Request.URL, all)
		}
	}
}
