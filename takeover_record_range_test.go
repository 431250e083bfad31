package evstream

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// A Range is no way past what is recorded, nor past on_active: the application is asked
// once. For POST it means nothing, so the application does not get to see it.
func TestARangeDoesNotEscapeRecord(t *testing.T) {
	m := newModel(t)
	address := freeAddress(t)
	load(t, strings.Replace(recordSite(address, m.URL, "on_active refuse"), "resume chat/{http.request.uri.path.2}", "", 1))
	url := "http://" + address + "/api/chat/7"
	begun(t, m, url, "{}")
	for _, method := range []string{http.MethodPost, http.MethodGet} {
		resp := get(t, url, header("Range", "bytes=0-9"), func(r *http.Request) { r.Method = method })
		if resp.StatusCode != http.StatusConflict {
			t.Errorf("%s: %d", method, resp.StatusCode)
		}
	}
	if n := m.asked.Load(); n != 1 {
		t.Errorf("the application was asked %d times", n)
	}
}

// Ranges of what is no stream are the application's.
func TestARangeOfAFileBehindRecordIsAnswered(t *testing.T) {
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Range", r.Header.Get("Range"))
		w.Header().Set("Content-Type", "text/plain")
		http.ServeContent(w, r, "", time.Time{}, strings.NewReader("0123456789"))
	}))
	t.Cleanup(app.Close)
	address := freeAddress(t)
	load(t, strings.Replace(recordSite(address, app.URL, ""), "resume chat/{http.request.uri.path.2}", "", 1))
	for method, want := range map[string]string{
		http.MethodGet:  "206 bytes 3-5/10 345 bytes=3-5",
		http.MethodPost: "200  0123456789 ",
	} {
		resp, body, err := answerOf(t, method, "http://"+address+"/api/chat/7", "", header("Range", "bytes=3-5"))
		if got := fmt.Sprint(resp.StatusCode, " ", resp.Header.Get("Content-Range"), " ", body, " ", resp.Header.Get("X-Range")); err != nil || got != want {
			t.Errorf("%s: %s, %v", method, got, err)
		}
	}
}
