package evstream

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"regexp"
	"runtime"
	"runtime/pprof"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/evstream/caddy-evstream/httpapi"
	"github.com/evstream/caddy-evstream/stream"
)

// inBothModes runs a test with what makes a handler's streams attached, and
// with what leaves them to be detached.
func inBothModes(t *testing.T, f func(t *testing.T, mode mode)) {
	t.Helper()
	for _, m := range []mode{{"attached", true}, {"auto", runtime.GOOS != "linux"}} {
		t.Run(m.delivery, func(t *testing.T) { f(t, m) })
	}
}

// mode is how streams over plain HTTP/1.1 are written.
type mode struct {
	delivery string
	attached bool
}

// block is a handler's block that allows anything.
func (m mode) block(more ...string) string {
	return allowAnything + "\n\t\tdelivery " + m.delivery + "\n\t\t" + strings.Join(more, "\n\t\t")
}

// handlerWaits reports whether the handler of a stream waits for it to end, which it
// does if the stream is attached.
func handlerWaits(t testing.TB) bool {
	t.Helper()
	var stacks bytes.Buffer
	if err := pprof.Lookup("goroutine").WriteTo(&stacks, 1); err != nil {
		t.Fatal(err)
	}
	return bytes.Contains(stacks.Bytes(), []byte("/stream.(*Session).Wait"))
}

// check fails the test where streams are in another mode. It sees all that are open.
func (m mode) check(streams ...*caddyStream) {
	for _, s := range streams {
		s.t.Helper()
		eventually(s.t, "its handler to wait, or to return", func() bool { return handlerWaits(s.t) == m.attached })
	}
}

func TestStreamsOfBothModesLiveOverReloads(t *testing.T) {
	inBothModes(t, func(t *testing.T, mode mode) {
		address := freeAddress(t)
		url := "http://" + address + "/live"
		config := func(n int, block string) string {
			return site(address, fmt.Sprintf("\tevstream {\n\t\tmax_event %dKiB\n\t}", 100+n), block)
		}
		load(t, config(0, mode.block()))
		h := theHub(t, "default")
		var kept []*caddyStream
		for range 20 {
			kept = append(kept, subscribe(t, url+"/public/a"))
		}
		mode.check(kept...)
		sessions := h.Sessions()
		for n := range 5 {
			if err := reload(t, config(n+1, mode.block())); err != nil {
				t.Fatal(err)
			}
			mustPublish(t, url+"/public/a", fmt.Sprint(n))
			for _, s := range kept {
				s.expect(fmt.Sprint(n))
			}
		}
		app := running.get()
		for _, l := range sessions {
			if httpapi.HandlerOf(h, l) != app.handlers[0].api {
				t.Fatal("a stream was left behind in an earlier configuration")
			}
		}

		refused := subscribe(t, url+"/secret/a")
		mode.check(refused)
		if err := reload(t, config(10, "\t\tallow anyone all public/**\n\t\tdelivery "+mode.delivery)); err != nil {
			t.Fatal(err)
		}
		refused.ended()
		mustPublish(t, url+"/public/a", "on")
		for _, s := range kept {
			s.expect("on")
		}

		// A stream that goes on in a handler of the other mode stays as it is.
		other := map[string]string{"attached": "auto", "auto": "attached"}[mode.delivery]
		if err := reload(t, config(11, allowAnything+"\n\t\tdelivery "+other)); err != nil {
			t.Fatal(err)
		}
		mustPublish(t, url+"/public/a", "and on")
		for _, s := range kept {
			s.expect("and on")
		}

		if err := reload(t, options("\tevstream")+"http://"+address+" {\n\trespond gone\n}\n"); err != nil {
			t.Fatal(err)
		}
		for _, s := range kept {
			s.ended()
		}
		eventually(t, "all streams to be counted", func() bool {
			return h.Stats().Disconnects[stream.ReasonRefused] == 1 && h.Stats().Disconnects[stream.ReasonReload] == 20 && h.Stats().Streams == 0
		})
	})
}

func TestOnReloadDrainEndsStreamsOfBothModes(t *testing.T) {
	inBothModes(t, func(t *testing.T, mode mode) {
		address := freeAddress(t)
		load(t, site(address, "", mode.block("on_reload drain 50ms")))
		var streams []*caddyStream
		for range 10 {
			streams = append(streams, subscribe(t, "http://"+address+"/live/a"))
		}
		mode.check(streams...)
		if err := reload(t, site(address, "", mode.block())); err != nil {
			t.Fatal(err)
		}
		for _, s := range streams {
			s.ended()
		}
		h := theHub(t, "default")
		eventually(t, "the streams to end", func() bool { return len(h.Sessions()) == 0 })
		if n := h.Stats().Disconnects[stream.ReasonReload]; n != 10 {
			t.Errorf("streams ended for %v", h.Stats().Disconnects)
		}
	})
}

// TestMetricsAreTheSameInBothModes does the same in both, and compares all.
func TestMetricsAreTheSameInBothModes(t *testing.T) {
	told := map[string][]string{}
	inBothModes(t, func(t *testing.T, mode mode) {
		address, admin := freeAddress(t), freeAddress(t)
		url := "http://" + address + "/live"
		config := func(block string) string {
			return withAdmin(admin, address, "\tevstream {\n\t\tmax_connections 5\n\t\thistory 1\n\t}", block)
		}
		load(t, config(mode.block("max_age 4s", "heartbeat 1s")))
		aged := subscribe(t, url+"/a")
		if err := reload(t, config(mode.block())); err != nil {
			t.Fatal(err)
		}
		var others []*caddyStream
		for _, channel := range []string{"a", "a", "b", "c"} {
			others = append(others, subscribe(t, url+"/"+channel))
		}
		mode.check(append(others, aged)...)
		connect(t, url+"/a").ended() // one too many
		expect := func(name, want string) {
			t.Helper()
			eventually(t, name+" to be "+want, func() bool { return metric(t, admin, name) == want })
		}
		expect(`evstream_connections{broker="default"}`, "5")
		for _, data := range []string{"1", "2", "3"} {
			mustPublish(t, url+"/a", data)
			for _, s := range []*caddyStream{aged, others[0], others[1]} {
				s.expect(data)
			}
		}
		aged.ended()
		expect(`evstream_disconnects_total{broker="default",reason="max_age"}`, "1")
		others[0].cancel()
		expect(`evstream_disconnects_total{broker="default",reason="client"}`, "1")
		gap := connect(t, url+"/a", header("Last-Event-ID", "nonsense"))
		gap.next()
		expect(`evstream_connections{broker="default"}`, "4")
		if err := reload(t, config("\t\tallow anyone all b c\n\t\tdelivery "+mode.delivery)); err != nil {
			t.Fatal(err)
		}
		others[1].ended()
		gap.ended()
		expect(`evstream_disconnects_total{broker="default",reason="refused"}`, "2")
		expect(`evstream_connections{broker="default"}`, "2")
		_, all := send(t, http.MethodGet, "http://"+admin+"/metrics", "")
		for line := range strings.Lines(all) {
			// What histories take depends on how many events share a millisecond, and
			// what is written on the heartbeats.
			differs := regexp.MustCompile(`^evstream_(history_bytes|sessions|stream_bytes|(delivery_lag|log_append_duration)_seconds_(bucket|sum))`)
			if strings.HasPrefix(line, "evstream_") && !differs.MatchString(line) {
				told[mode.delivery] = append(told[mode.delivery], line)
			}
		}
		for _, line := range []string{
			`evstream_events_delivered_total{broker="default"} 10`,
			`evstream_gaps_total{broker="default"} 1`,
			`evstream_subscribe_refused_total{broker="default",reason="max_connections"} 1`,
		} {
			if !slices.Contains(told[mode.delivery], line+"\n") {
				t.Errorf("there is no %s in\n%s", line, strings.Join(told[mode.delivery], ""))
			}
		}
	})
	if a, b := told["attached"], told["auto"]; !slices.Equal(a, b) {
		t.Errorf("attached:\n%s\ndetached:\n%s", strings.Join(a, ""), strings.Join(b, ""))
	}
}

func TestLimitsOfBothModesAreReleasedAtTheEnd(t *testing.T) {
	inBothModes(t, func(t *testing.T, mode mode) {
		address := freeAddress(t)
		url := "http://" + address + "/live/a"
		load(t, site(address, "\tservers {\n\t\ttrusted_proxies static 127.0.0.1/32\n\t}\n"+
			"\tevstream {\n\t\tmax_connections 3\n\t\tmax_connections_per_ip 2\n\t}", mode.block("on_overload 503")))
		from := func(ip string) func(*http.Request) { return header("X-Forwarded-For", ip) }
		refused := func(ip string, status int) {
			t.Helper()
			if s := connect(t, url, from(ip)); s.status != status {
				t.Errorf("one too many is answered %d, not %d", s.status, status)
			}
		}
		h := theHub(t, "default")
		for range 10 {
			one, two := subscribe(t, url, from("192.0.2.1")), subscribe(t, url, from("192.0.2.1"))
			mode.check(one, two)
			refused("192.0.2.1", http.StatusTooManyRequests)
			other := subscribe(t, url, from("192.0.2.2"))
			refused("192.0.2.3", http.StatusServiceUnavailable)
			one.cancel()
			for _, l := range h.Sessions() {
				l.Stream.Close(stream.ReasonRevoked)
			}
			two.ended()
			other.ended()
			eventually(t, "nothing to be left", func() bool {
				return h.Stats().Streams == 0 && h.Broker().Stats().Subscriptions == 0
			})
		}
	})
}

func TestHeartbeatsAndAgeOfBothModes(t *testing.T) {
	inBothModes(t, func(t *testing.T, mode mode) {
		address := freeAddress(t)
		load(t, site(address, "", mode.block("heartbeat 1s event", "max_age 1500ms")))
		s := subscribe(t, "http://"+address+"/live/a")
		mode.check(s)
		if e, err := s.events.Next(); err != nil || e.Type != "heartbeat" {
			t.Errorf("instead of a heartbeat: %+v, %v", e, err)
		}
		for e, err := s.events.Next(); err == nil; e, err = s.events.Next() {
			if e.Type != "heartbeat" {
				t.Errorf("instead of a heartbeat: %+v", e)
			}
		}
		h := theHub(t, "default")
		eventually(t, "the stream to end", func() bool { return len(h.Sessions()) == 0 })
		if h.Stats().Disconnects[stream.ReasonAge] != 1 || s.events.Retry() <= 0 {
			t.Errorf("ended for %v, with retry %d", h.Stats().Disconnects, s.events.Retry())
		}
	})
}

// touchy is a handler whose response writer gives the request up: in the
// header, or in some write.
type touchy struct {
	Where string `json:"where"`
}

// touched is told of each panic.
var touched atomic.Int32

func init() {
	caddy.RegisterModule(new(touchy))
	httpcaddyfile.RegisterHandlerDirective("evstream_test_touchy", func(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
		t := new(touchy)
		return t, t.UnmarshalCaddyfile(h.Dispenser)
	})
}

func (*touchy) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.evstream_test_touchy", New: func() caddy.Module { return new(touchy) }}
}

func (h *touchy) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next()
	if !d.AllArgs(&h.Where) {
		return d.ArgErr()
	}
	return nil
}

func (h *touchy) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	return next.ServeHTTP(&touchyWriter{ResponseWriterWrapper: &caddyhttp.ResponseWriterWrapper{ResponseWriter: w}, where: h.Where}, r)
}

type touchyWriter struct {
	*caddyhttp.ResponseWriterWrapper
	where  string
	writes int
}

func (w *touchyWriter) giveUp(where string) {
	if w.where == where {
		touched.Add(1)
		panic(http.ErrAbortHandler)
	}
}

func (w *touchyWriter) WriteHeader(status int) {
	w.giveUp("header")
	w.ResponseWriterWrapper.WriteHeader(status)
}

func (w *touchyWriter) Write(p []byte) (int, error) {
	w.writes++
	w.giveUp(fmt.Sprintf("write-%d", w.writes))
	return w.ResponseWriterWrapper.Write(p)
}

// A panic that is not recovered on the right goroutine ends the process.
func TestAPanicOfAWrapperEndsItsStreamOnly(t *testing.T) {
	inBothModes(t, func(t *testing.T, mode mode) {
		for _, where := range []string{"header", "write-1", "write-2"} {
			if where == "write-2" && !mode.attached {
				continue // what wraps the writer sees nothing of it
			}
			t.Run(where, func(t *testing.T) {
				address := freeAddress(t)
				load(t, options("")+"http://"+address+" {\n\troute /touchy/* {\n\t\tevstream_test_touchy "+where+
					"\n\t\tevstream /touchy/* {\n"+mode.block()+"\n\t\t}\n\t}\n\tevstream /live/* {\n"+mode.block()+"\n\t}\n}\n")
				h := theHub(t, "default")
				beside := subscribe(t, "http://"+address+"/live/a")
				mode.check(beside)
				before := touched.Load()
				if where == "write-2" {
					s := subscribe(t, "http://"+address+"/touchy/a")
					mode.check(s)
					mustPublish(t, "http://"+address+"/live/a", "1")
					if e, err := s.events.Next(); err == nil {
						t.Errorf("got %+v", e)
					}
					beside.expect("1")
				} else if resp, err := client.Get("http://" + address + "/touchy/a"); err == nil {
					resp.Body.Close()
					t.Errorf("it is answered %s", resp.Status)
				}
				if touched.Load() == before {
					t.Error("nothing gave up")
				}
				eventually(t, "the stream to end", func() bool { return len(h.Sessions()) == 1 && h.Broker().Stats().Subscriptions == 1 })
				if h.Stats().Disconnects[stream.ReasonError] == 0 {
					t.Errorf("ended for %v", h.Stats().Disconnects)
				}
				mustPublish(t, "http://"+address+"/live/a", "on")
				beside.expect("on")
			})
		}
	})
}

// The request after a stream is answered. Where the client was told that the
// connection closes, it comes over another one; an attached stream says so, and a
// detached one closes without a word: see Session.Detach.
func TestTheRequestAfterAStreamIsAnswered(t *testing.T) {
	inBothModes(t, func(t *testing.T, mode mode) {
		address := freeAddress(t)
		load(t, site(address, "", mode.block()))
		h := theHub(t, "default")
		keeping := &http.Client{Transport: &http.Transport{}, Timeout: patience}
		defer keeping.CloseIdleConnections()
		get := func(path string) (resp *http.Response, reused bool) {
			t.Helper()
			trace := &httptrace.ClientTrace{GotConn: func(c httptrace.GotConnInfo) { reused = c.Reused }}
			r, err := http.NewRequestWithContext(httptrace.WithClientTrace(t.Context(), trace), http.MethodGet, "http://"+address+path, nil)
			if err != nil {
				t.Fatal(err)
			}
			if resp, err = keeping.Do(r); err != nil {
				t.Fatal(err)
			}
			return resp, reused
		}
		for range 3 {
			s, _ := get("/live/a")
			for _, l := range h.Sessions() {
				l.Stream.Close(stream.ReasonRevoked)
			}
			if _, err := io.Copy(io.Discard, s.Body); err != nil {
				t.Error(err)
			}
			s.Body.Close()
			next, reused := get("/live/_channels")
			if _, err := io.Copy(io.Discard, next.Body); err != nil || next.StatusCode != http.StatusOK || reused && (s.Close || !mode.attached) {
				t.Errorf("the next request: %s, %v; over the same connection: %v", next.Status, err, reused)
			}
			next.Body.Close()
			keeping.CloseIdleConnections()
		}
	})
}
