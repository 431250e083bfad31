package evstream

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/evstream/caddy-evstream/runs"
)

// waiting is an application that begins no answer before it is told to.
func waiting(t *testing.T, answer http.HandlerFunc) (app *httptest.Server, asked *atomic.Int32, begin chan struct{}) {
	t.Helper()
	asked, begin = new(atomic.Int32), make(chan struct{})
	app = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		asked.Add(1)
		select {
		case <-begin:
			answer(w, r)
		case <-r.Context().Done():
		}
	}))
	t.Cleanup(app.Close)
	return app, asked, begin
}

// What is stopped before the application has answered is no answer with nothing in it.
func TestAnAnswerIsStoppedBeforeItBegins(t *testing.T) {
	for _, on := range []string{"join", "replace"} {
		t.Run(on, func(t *testing.T) {
			app, asked, begin := waiting(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "text/event-stream")
				_, _ = io.WriteString(w, "data: two\n\n")
			})
			address := freeAddress(t)
			load(t, recordSite(address, app.URL, "on_active "+on))
			url := "http://" + address + "/api/chat/7"
			first := make(chan string, 1)
			go func() {
				resp, err := client.Post(url, "", strings.NewReader("1"))
				if err != nil {
					first <- "cut"
					return
				}
				defer resp.Body.Close()
				got, err := io.ReadAll(resp.Body)
				first <- fmt.Sprint(resp.StatusCode, " ", string(got), " ", err)
			}()
			eventually(t, "the application to be asked", func() bool { return asked.Load() == 1 && recordedState(t, "chat/7") == runs.Asking })
			if on == "join" {
				if status, body := send(t, http.MethodDelete, url+"?stop", ""); status != http.StatusNoContent {
					t.Errorf("to stop it is answered %d %s", status, body)
				}
			} else {
				go func() {
					eventually(t, "the application to be asked again", func() bool { return asked.Load() == 2 })
					close(begin)
				}()
				if got := rest(t, prompt(t, url, "2").Body); got != "data: two\n\n" {
					t.Errorf("the second reader got %q", got)
				}
			}
			if got := <-first; on == "join" && !strings.HasPrefix(got, "409 ") || strings.HasPrefix(got, "200  ") {
				t.Errorf("the first reader got %s", got)
			}
		})
	}
}

// Answers that are no streams come one after the other, however many wait.
func TestManyRequestsOfOneChannelAreAnswered(t *testing.T) {
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, "{}")
	}))
	t.Cleanup(app.Close)
	address := freeAddress(t)
	load(t, recordSite(address, app.URL, ""))
	var work sync.WaitGroup
	for i := range 40 {
		work.Go(func() {
			if status, body := post(t, "http://"+address+"/api/chat/7", fmt.Sprint(i)); status != 200 || body != "{}" {
				t.Errorf("%d %s", status, body)
			}
		})
	}
	work.Wait()
}

// Whoever may not read an answer does not wait for it to begin.
func TestAStrangerDoesNotWaitForAnAnswer(t *testing.T) {
	app, asked, _ := waiting(t, nil)
	address := freeAddress(t)
	load(t, strings.Replace(recordSite(address, app.URL, ""), "allow anyone subscribe,publish chat/*", "allow anyone subscribe never", 1))
	url := "http://" + address + "/api/chat/7"
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		r, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, url, nil)
		if resp, err := client.Do(r); err == nil {
			resp.Body.Close()
		}
	}()
	eventually(t, "the run to be asked for", func() bool { return asked.Load() == 1 && recordedState(t, "chat/7") == runs.Asking })
	if resp := get(t, url); resp.StatusCode/100 != 4 {
		t.Errorf("%d", resp.StatusCode)
	}
	app.CloseClientConnections()
	<-gone
}
