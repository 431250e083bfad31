package evstream

import (
	"bufio"
	"compress/gzip"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/evstream/caddy-evstream/runs"
)

// rawApp answers each request with the same bytes, and closes the connection.
func rawApp(t *testing.T, answer string) (address string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			if r, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
				_, _ = io.Copy(io.Discard, r.Body)
				_, _ = io.WriteString(c, answer)
			}
			c.Close()
		}
	}()
	return l.Addr().String()
}

// recordedState is how the run of a channel is.
func recordedState(t *testing.T, channel string) runs.State {
	t.Helper()
	if r := theHub(t, "default").Runs().Get(channel); r != nil {
		return r.State
	}
	return ""
}

// What stands around a recorder, or behind it.
func TestAnswersAreRecordedWhateverStandsAround(t *testing.T) {
	const two = "data: one\n\ndata: two\n\n"
	plain := "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n" + two
	for _, tt := range []struct {
		name, answer, around string
		kept                 string
		state                runs.State
	}{
		{"as it is", plain, "", two, runs.Done},
		{"a server of HTTP/1.0", "HTTP/1.0 200 OK\r\nContent-Type: text/event-stream\r\n\r\n" + two, "", two, runs.Done},
		{"a length", "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nContent-Length: 22\r\n\r\n" + two, "", two, runs.Done},
		{"a length that is not reached", "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 99\r\n\r\n" + two, "", two + "event: broken\ndata: {\"reason\":\"application\"}\n\n", runs.Broken},
		{"chunks that are cut", "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n16\r\n" + two + "\r\n", "", two + "event: broken\ndata: {\"reason\":\"application\"}\n\n", runs.Broken},
		{"trailers", "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n16\r\n" + two + "\r\n0\r\nX-Sum: 1\r\n\r\n", "", two, runs.Done},
		{"no blank line at the end", strings.TrimSuffix(plain, "\n"), "", two, runs.Done},
		{"carriage returns", strings.ReplaceAll(plain, two, "data: one\r\rdata: two\r\n\r\n"), "", two, runs.Done},
		{"encode", plain, "encode gzip", two, runs.Done},
		{"intercept", plain, "intercept {\n@e status 5xx\nhandle_response @e {\nrespond 500\n}\n}", two, runs.Done},
		{"a header of answers", plain, "header -X-None\nheader >X-More yes", two, runs.Done},
		{"compressed all the same", "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Encoding: gzip\r\nConnection: close\r\n\r\n" + two, "", "", ""},
		{"no stream", "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\n" + two, "", "", ""},
		{"another status", "HTTP/1.1 201 Created\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n" + two, "", "", ""},
		{"an early hint", "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + plain, "", two, runs.Done},
	} {
		t.Run(tt.name, func(t *testing.T) {
			address := freeAddress(t)
			load(t, strings.Replace(recordSite(address, "http://"+rawApp(t, tt.answer), ""), "\t\tevstream {\n\t\t\trecord", tt.around+"\n\t\tevstream {\n\t\t\trecord", 1))
			url := "http://" + address + "/api/chat/7"
			resp := get(t, url, func(r *http.Request) {
				r.Method = http.MethodPost
				r.Header.Set("Accept-Encoding", "identity") // or the client would decode it
			})
			body, err := io.ReadAll(resp.Body)
			whole := tt.state != runs.Broken
			if (err == nil) != whole {
				t.Errorf("the first reader got %q, %v", body, err)
			}
			if _, want, _ := strings.Cut(tt.answer, "\r\n\r\n"); whole && tt.name != "trailers" && !strings.HasSuffix(want, string(body)) {
				t.Errorf("the first reader got %q", body)
			}
			if tt.name == "trailers" && (string(body) != two || resp.Trailer.Get("X-Sum") != "1") {
				t.Errorf("the first reader got %q and %v", body, resp.Trailer)
			}
			eventually(t, "the run to be "+string(tt.state), func() bool { return recordedState(t, "chat/7") == tt.state })
			if got := rest(t, get(t, url).Body); got != tt.kept {
				t.Errorf("kept: %q, want %q", got, tt.kept)
			}
		})
	}
}

// A request that is for no stream is none of the recorder's.
func TestWhatIsNotRecordedIsPassedOn(t *testing.T) {
	m := newModel(t)
	close(m.tokens)
	address := freeAddress(t)
	load(t, recordSite(address, m.URL, ""))
	for _, change := range []func(*http.Request){
		func(r *http.Request) { r.Method = http.MethodOptions },
		func(r *http.Request) { r.Method = http.MethodDelete },
		func(r *http.Request) { r.Method, r.URL.Path = http.MethodPost, "/api/chat/" },
	} {
		before := m.asked.Load()
		resp := get(t, "http://"+address+"/api/chat/7", change)
		_, _ = io.Copy(io.Discard, resp.Body)
		if m.asked.Load() != before+1 || len(theHub(t, "default").Broker().State("chat/7").Value) > 0 || recordedState(t, "chat/7") != "" {
			t.Errorf("%s %s: it is %q", resp.Request.Method, resp.Request.URL, recordedState(t, "chat/7"))
		}
	}
	resp := get(t, "http://"+address+"/api/chat/7", func(r *http.Request) { r.Method = http.MethodHead })
	if resp.StatusCode != http.StatusNoContent {
		t.Errorf("HEAD: %d", resp.StatusCode)
	}
}

func TestABoundOfAnAnswerCutsIt(t *testing.T) {
	for name, more := range map[string]string{"longest": "longest 1s", "largest": "largest 64KiB"} {
		t.Run(name, func(t *testing.T) {
			m := newModel(t)
			address := freeAddress(t)
			load(t, recordSite(address, m.URL, more))
			url := "http://" + address + "/api/chat/7"
			first := begun(t, m, url, "{}")
			if name == "largest" {
				m.tokens <- strings.Repeat("x", 80<<10)
			}
			if got, err := io.ReadAll(first.Body); err == nil {
				t.Errorf("%s: the first reader got a clean end, %.80q", name, got)
			}
			eventually(t, "the application to be free", func() bool { return m.open.Load() == 0 })
			mark := "data: {\"type\":\"error\",\"errorText\":\"the answer was cut off\"}\n\ndata: [DONE]\n\n"
			if got := rest(t, get(t, url).Body); got != "data: one\n\n"+mark {
				t.Errorf("%s: kept: %.200q", name, got)
			}
		})
	}
}

func TestARequestWhileAnAnswerGoesOn(t *testing.T) {
	for _, on := range []string{"replace", "refuse"} {
		t.Run(on, func(t *testing.T) {
			m := newModel(t)
			address := freeAddress(t)
			load(t, recordSite(address, m.URL, "on_active "+on))
			url := "http://" + address + "/api/chat/7"
			first := begun(t, m, url, "1")
			if on == "refuse" {
				if status, body := post(t, url, "2"); status != http.StatusConflict || !strings.Contains(body, "conflict") {
					t.Errorf("%d %s", status, body)
				}
				return
			}
			second := prompt(t, url, "2")
			if got := rest(t, first.Body); !strings.HasPrefix(got, "data: {\"type\":\"abort\"}") {
				t.Errorf("the first reader got %q", got)
			}
			m.tokens <- "two"
			close(m.tokens)
			if got := rest(t, second.Body); got != "data: two\n\n" {
				t.Errorf("the second reader got %q", got)
			}
			if got := rest(t, get(t, url).Body); got != "data: two\n\n" || m.asked.Load() != 2 {
				t.Errorf("kept: %q, asked %d times", got, m.asked.Load())
			}
		})
	}
}

// A first reader that takes nothing does not slow the application, and others get all.
func TestASlowFirstReaderHoldsNobodyUp(t *testing.T) {
	const n, size = 800, 10 << 10
	var done atomic.Bool
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		for i := range n {
			fmt.Fprintf(w, "data: %d %s\n\n", i, strings.Repeat("x", size))
			_ = http.NewResponseController(w).Flush()
		}
		done.Store(true)
	}))
	t.Cleanup(app.Close)
	address := freeAddress(t)
	load(t, recordSite(address, app.URL, "largest 16MiB"))
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprintf(c, "POST /api/chat/7 HTTP/1.1\r\nHost: %s\r\nContent-Length: 1\r\nConnection: close\r\n\r\nx", address)
	eventually(t, "the application to be done", done.Load)
	eventually(t, "the run to be done", func() bool { return recordedState(t, "chat/7") == runs.Done })
	got := rest(t, get(t, "http://"+address+"/api/chat/7").Body)
	if strings.Count(got, "data: ") != n || !strings.Contains(got, fmt.Sprintf("data: %d x", n-1)) {
		t.Errorf("kept %d events", strings.Count(got, "data: "))
	}
	all, err := io.ReadAll(c)
	if err == nil && strings.HasSuffix(string(all), "0\r\n\r\n") {
		t.Errorf("the slow reader got a clean end after %d bytes", len(all))
	}
}

// A recorder behind a recorder: both record, and the application is asked once.
func TestARecorderBehindARecorder(t *testing.T) {
	m := newModel(t)
	address := freeAddress(t)
	load(t, strings.Replace(recordSite(address, m.URL, ""), "\t\treverse_proxy", "evstream {\nrecord inner/{http.request.uri.path.2}\nallow anyone subscribe **\n}\n\t\treverse_proxy", 1))
	url := "http://" + address + "/api/chat/7"
	first := prompt(t, url, "1")
	m.tokens <- "one"
	close(m.tokens)
	if got := rest(t, first.Body); got != "data: one\n\n" {
		t.Errorf("the reader got %q", got)
	}
	if a, b := recordedState(t, "chat/7"), recordedState(t, "inner/7"); a != runs.Done || b != runs.Done {
		t.Errorf("they are %q and %q", a, b)
	}
}

// The answer of a proxy's handle_response is recorded as any other.
func TestWhatAProxyMakesOfAnAnswerIsRecorded(t *testing.T) {
	app := rawApp(t, "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nX-Stream: yes\r\nConnection: close\r\n\r\ndata: one\n\n")
	address := freeAddress(t)
	load(t, strings.Replace(recordSite(address, "http://"+app, ""), "reverse_proxy "+app, "reverse_proxy "+app+" {\n@s header X-Stream yes\nhandle_response @s {\ncopy_response_headers\nheader Content-Type text/event-stream\ncopy_response\n}\n}", 1))
	url := "http://" + address + "/api/chat/7"
	if got := rest(t, prompt(t, url, "1").Body); got != "data: one\n\n" {
		t.Errorf("the reader got %q", got)
	}
	if got := rest(t, get(t, url).Body); got != "data: one\n\n" {
		t.Errorf("kept: %q", got)
	}
}

// A client that takes gzip gets none of what is recorded, unless encode stands in front.
func TestARecordedAnswerIsAskedForAsItIs(t *testing.T) {
	var coding atomic.Value
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		coding.Store(r.Header.Get("Accept-Encoding"))
		w.Header().Set("Content-Type", "text/event-stream")
		fmt.Fprint(w, "data: one\n\n")
	}))
	t.Cleanup(app.Close)
	address := freeAddress(t)
	load(t, recordSite(address, app.URL, ""))
	resp := get(t, "http://"+address+"/api/chat/7", func(r *http.Request) {
		r.Method = http.MethodPost
		r.Header.Set("Accept-Encoding", "gzip")
	})
	if resp.Header.Get("Content-Encoding") != "" || coding.Load() != "identity" {
		t.Errorf("asked for %q, answered %q", coding.Load(), resp.Header.Get("Content-Encoding"))
	}
	if _, err := gzip.NewReader(resp.Body); err == nil {
		t.Error("it is compressed")
	}
}
