package evstream

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/evstream/caddy-evstream/internal/redistest"
)

// An application publishes to any node, and its streams are at another: filters, missing
// items and the end are known there, too.
func TestGRIPOverTwoNodes(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	var asks atomic.Int32
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Type", "text/event-stream")
		h.Set("Grip-Hold", "stream")
		if r.URL.Path == "/app/next" {
			asks.Add(1)
			h.Set("Grip-Channel", "a; prev-id=9")
			h.Set("Grip-Link", "</app/next>; rel=next; timeout=600")
			fmt.Fprintf(w, "data: recovered after %s\n\n", strings.ReplaceAll(r.Header.Get("Grip-Last"), "; ", "-"))
			return
		}
		if r.URL.Query().Has("link") {
			h.Set("Grip-Channel", "a; prev-id=1; filter=skip-self")
			h.Set("Grip-Set-Meta", `user="ann"`)
			h.Set("Grip-Link", "</app/next>; rel=next; timeout=600")
		} else {
			h.Set("Grip-Channel", "a")
		}
		fmt.Fprint(w, "data: hello\n\n")
	}))
	t.Cleanup(app.Close)
	a, b := freeAddress(t), freeAddress(t)
	global := "\tevstream {\n" + sharedBy(server.Addr(), "") + "\t}\n"
	for _, address := range []string{a, b} {
		startCaddy(t, func(admin string) string {
			return strings.Replace(gripSite(address, app.URL, ""), options(""), "{\n\tadmin "+admin+"\n\tpersist_config off\n\tauto_https off\n"+global+"\n}\n", 1)
		})
	}
	for _, address := range []string{a, b} {
		eventually(t, "the log to be loaded", func() bool {
			resp, err := client.Get("http://" + address + "/live/x?limit=1")
			if err != nil {
				return false
			}
			resp.Body.Close()
			return resp.StatusCode == 200
		})
	}
	plain, linked, other := openRaw(t, "http://"+a+"/app/", "data: hello\n\n"), openRaw(t, "http://"+a+"/app/?link", "data: hello\n\n"), openRaw(t, "http://"+b+"/app/?link", "data: hello\n\n")
	publish := func(at, item string) {
		t.Helper()
		resp, body, err := answerOf(t, "POST", "http://"+at+"/app/_grip/publish/", `{"items":[`+item+`]}`, header("Authorization", "Bearer "+gripKey))
		if err != nil || resp.StatusCode != 200 {
			t.Fatal(err, resp, body)
		}
	}
	publish(b, `{"channel":"a","id":"2","prev-id":"1","http-stream":{"content":"data: 2\n\n"}}`)
	publish(a, `{"channel":"a","id":"2","prev-id":"1","http-stream":{"content":"data: 2\n\n"}}`) // again, on the other node
	publish(a, `{"channel":"a","id":"3","prev-id":"2","http-stream":{"content":"data: 3\n\n"}}`)
	linked.expect("data: 2\n\ndata: 3\n\n")
	other.expect("data: 2\n\ndata: 3\n\n")
	plain.expect("data: 2\n\ndata: 2\n\ndata: 3\n\n")
	publish(b, `{"channel":"a","id":"4","prev-id":"3","http-stream":{"content":"data: of ann\n\n"},"meta":{"sender":"ann"}}`)
	plain.expect("data: of ann\n\n")
	publish(b, `{"channel":"a","id":"9","prev-id":"8","http-stream":{"content":"data: 9\n\n"}}`)
	linked.expect("data: recovered after a-last-id=3\n\n")
	other.expect("data: recovered after a-last-id=3\n\n")
	plain.expect("data: 9\n\n")
	if n := asks.Load(); n != 2 {
		t.Errorf("the application was asked %d times", n)
	}
	publish(b, `{"channel":"a","http-stream":{"action":"close"}}`)
	for _, s := range []*rawStream{plain, linked, other} {
		s.expect(":\n")
		if rest, err := io.ReadAll(s.body); err != nil || len(rest) > 0 {
			t.Errorf("a stream ends with %q, %v", rest, err)
		}
	}
}
