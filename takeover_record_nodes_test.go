package evstream

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/evstream/caddy-evstream/internal/redistest"
)

// However many replace an answer at once, at two nodes, one goes on, and the others are told.
func TestTwoNodesThatReplaceAtOnceLeaveOneAnswer(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	release := make(chan struct{})
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		w.Header().Set("X-Vercel-AI-UI-Message-Stream", "v1")
		_ = http.NewResponseController(w).Flush()
		select {
		case <-release:
			fmt.Fprint(w, "data: last\n\n")
		case <-r.Context().Done():
		}
	}))
	t.Cleanup(app.Close)
	a, b := freeAddress(t), freeAddress(t)
	global := "\tevstream {\n" + sharedBy(server.Addr(), "") + "\t}\n"
	for _, address := range []string{a, b} {
		startCaddy(t, func(admin string) string {
			return strings.Replace(recordSite(address, app.URL, "on_active replace"), options(""), "{\n\tadmin "+admin+"\n\tpersist_config off\n\tauto_https off\n"+global+"\n}\n", 1)
		})
	}
	for _, address := range []string{a, b} {
		eventually(t, "the log to be loaded", func() bool {
			status, _ := send(t, http.MethodGet, "http://"+address+"/api/chat/7", "")
			return status == http.StatusNoContent
		})
	}
	const all = 10
	answers := make(chan string, all)
	for i := range all {
		go func() {
			resp, err := client.Post("http://"+[]string{a, b}[i%2]+"/api/chat/7", "", strings.NewReader(fmt.Sprint(i)))
			if err != nil {
				answers <- err.Error()
				return
			}
			defer resp.Body.Close()
			got, err := io.ReadAll(resp.Body)
			answers <- fmt.Sprint(resp.StatusCode, " ", withoutIDs(string(got)), " ", err)
		}()
	}
	for range all - 1 {
		got := <-answers
		before := strings.HasPrefix(got, "409 ") && strings.Contains(got, "the answer was replaced before it began")
		if after := got == "200 data: {\"type\":\"abort\"}\n\ndata: [DONE]\n\n <nil>"; !before && !after {
			t.Errorf("one that was replaced: %s", got)
		}
	}
	close(release)
	if got := <-answers; got != "200 data: last\n\n <nil>" {
		t.Errorf("the last: %s", got)
	}
}
