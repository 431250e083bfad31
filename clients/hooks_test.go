package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
)

const secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw" //nolint:gosec // of this test alone

// The application of docs/hooks.md is as it stands in examples/hooks, and the library that
// checks the signatures is that of Standard Webhooks.
func TestTheApplicationCountsWhoIsOnline(t *testing.T) {
	const example = "../examples/hooks/"
	t.Setenv("EVSTREAM_HOOK_SECRET", secret)
	site, admin, app := free(t), free(t), free(t)
	const page = "\theader /page Content-Type text/html\n\trespond /page \"<script>new EventSource('/live/user-count')</script>\"\n"
	runApp(t, example, "hooks-app.mjs", "PORT="+strings.TrimPrefix(app, "localhost:"), "EVSTREAM_ADMIN=http://"+admin)
	eventually(t, "the application to listen", func() bool { return answers(app) })

	file, err := os.ReadFile(example + "Caddyfile")
	if err != nil {
		t.Fatal(err)
	}
	edited := strings.NewReplacer("localhost:3000", app, "localhost:8080", site, "\tevstream /live/* {", page+"\tevstream /live/* {", "{\n\tevstream {", "{\n\tadmin "+admin+"\n\tpersist_config off\n\tevstream {").Replace(string(file))
	runCaddy(t, edited, site)
	count := func(want int) {
		t.Helper()
		eventually(t, fmt.Sprintf("%d to be online", want), func() bool {
			r, err := http.NewRequest(http.MethodGet, "http://"+site+"/live/user-count", nil)
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("Accept", "application/json")
			resp, err := http.DefaultClient.Do(r)
			if err != nil {
				return false
			}
			defer resp.Body.Close()
			got := -1
			return json.NewDecoder(resp.Body).Decode(&got) == nil && resp.StatusCode == http.StatusOK && got == want
		})
	}
	open := func() *http.Response {
		resp, err := http.Get("http://" + site + "/live/?channel=user-count")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { resp.Body.Close() })
		return resp
	}
	first := open()
	count(1)
	second := open()
	count(2)
	first.Body.Close()
	count(1)
	second.Body.Close()
	count(0)

	// So does a browser whose processes are killed, which says nothing.
	browser, err := chromium(context.Background(), t.TempDir(), "http://"+site+"/page")
	if err != nil {
		t.Fatal(err)
	}
	if err := browser.Start(); err != nil {
		t.Fatal(err)
	}
	kill := sync.OnceFunc(func() {
		_ = syscall.Kill(-browser.Process.Pid, syscall.SIGKILL)
		_ = browser.Wait()
	})
	t.Cleanup(kill)
	count(1)
	kill()
	count(0)

	// Who does not know the secret changes nothing.
	resp, err := http.Post("http://"+app+"/hooks", "application/json", strings.NewReader(`{"type":"evstream.connected","data":{"session":"forged"}}`))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusUnauthorized {
		t.Errorf("a forged event is answered %s", resp.Status)
	}
	count(0)
}
