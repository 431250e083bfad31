package evstream

import (
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/httpapi"
	"github.com/evstream/caddy-evstream/stream"
)

const allowAnything = "\t\tallow anyone all **"

// failing is an app that cannot start, or that fails once all have started.
type failing struct {
	Provisioning bool `json:"provisioning,omitempty"`
}

func init() { caddy.RegisterModule(new(failing)) }

func (*failing) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "evstream_test_failing", New: func() caddy.Module { return new(failing) }}
}

func (f *failing) Provision(ctx caddy.Context) error {
	if !f.Provisioning {
		return nil
	}
	// The others first.
	if _, err := ctx.App("http"); err != nil {
		return err
	}
	return fmt.Errorf("failing on purpose")
}
func (*failing) Start() error { return fmt.Errorf("failing on purpose") }
func (*failing) Stop() error  { return nil }

// withApp adds an app to an adapted Caddyfile.
func withApp(t *testing.T, caddyfile, app string) []byte {
	t.Helper()
	return []byte(strings.Replace(string(adapt(t, caddyfile)), `"apps":{`, `"apps":{`+app+`,`, 1))
}

func TestStreamsSurviveReloadsAndLoseNothing(t *testing.T) {
	address := freeAddress(t)
	url := "http://" + address + "/live/"
	load(t, site(address, "", allowAnything))
	before := theHub(t, "default")

	const streams, reloads = 200, 20
	readers := make([]*caddyStream, streams)
	for i := range readers {
		readers[i] = subscribe(t, url+"a")
	}
	sessions := before.Sessions()
	var publishing sync.WaitGroup
	publishing.Go(func() {
		for i := range reloads * 10 {
			mustPublish(t, url+"a", fmt.Sprint(i))
		}
	})
	for i := range reloads {
		// A comment in the configuration makes it another one.
		if err := reload(t, site(address, fmt.Sprintf("\tlog %d {\n\t\tlevel ERROR\n\t}", i), allowAnything)); err != nil {
			t.Fatal(err)
		}
	}
	publishing.Wait()
	for _, r := range readers {
		for i := range reloads * 10 {
			r.expect(fmt.Sprint(i))
		}
	}

	h := theHub(t, "default")
	if h != before {
		t.Error("the hub is another one")
	}
	if n, _ := pool.References(running.get().keys[0]); n != 1 {
		t.Errorf("the pool counts %d references, want 1", n)
	}
	if len(h.Sessions()) != streams {
		t.Errorf("the hub knows %d streams, want %d", len(h.Sessions()), streams)
	}
	app := running.get()
	for _, l := range sessions {
		if httpapi.HandlerOf(h, l) != app.handlers[0].api {
			t.Error("a stream was left behind in an earlier configuration")
			break
		}
	}
}

func TestReloadEndsStreamsWhoseHandlerIsGone(t *testing.T) {
	address := freeAddress(t)
	load(t, site(address, "", allowAnything))
	for name, config := range map[string]string{
		"another mount":    options("") + "http://" + address + " {\n\tevstream /other/* {\n" + allowAnything + "\n\t}\n}\n",
		"no handler":       options("\tevstream") + "http://" + address + " {\n\trespond hello\n}\n",
		"no evstream":      options("") + "http://" + address + " {\n\trespond hello\n}\n",
		"another broker":   options("\tevstream chat") + "http://" + address + " {\n\tevstream /live/* {\n\t\tbroker chat\n" + allowAnything + "\n\t}\n}\n",
		"no configuration": options(""),
	} {
		t.Run(name, func(t *testing.T) {
			if err := reload(t, site(address, "", allowAnything)); err != nil {
				t.Fatal(err)
			}
			r := subscribe(t, "http://"+address+"/live/a")
			if err := reload(t, config); err != nil {
				t.Fatal(err)
			}
			r.ended()
		})
	}
}

func TestFailedReloadLeavesEverythingAsItWas(t *testing.T) {
	address := freeAddress(t)
	url := "http://" + address + "/live/a"
	good := site(address, "\tevstream {\n\t\tmax_connections_per_ip 7\n\t}", allowAnything)
	bad := site(address, "\tevstream {\n\t\tmax_connections_per_ip 3\n\t}\n\tevstream chat", "\t\tallow anyone subscribe b")
	load(t, good)
	r := subscribe(t, url)
	app, h := running.get(), theHub(t, "default")
	for name, config := range map[string][]byte{
		"provisioning": withApp(t, bad, `"evstream_test_failing":{"provisioning":true}`),
		"start":        withApp(t, bad, `"evstream_test_failing":{}`),
		// Remote administration is set up after the event "started".
		"after the start": []byte(strings.Replace(string(adapt(t, bad)), `"admin":{"disabled":true`,
			`"admin":{"disabled":true,"remote":{"listen":"nonsense:99999999"}`, 1)),
	} {
		t.Run(name, func(t *testing.T) {
			if err := reloadJSON(t, config); err == nil {
				t.Fatal("the reload succeeded")
			} else {
				t.Log(err)
			}
			if running.get() != app || theHub(t, "default") != h {
				t.Error("another configuration runs")
			}
			if n, _ := pool.References(app.keys[0]); n != 1 || len(hubs.all()) != 1 {
				t.Errorf("there are %d references, and %d hubs", n, len(hubs.all()))
			}
			if h.Config().MaxPerAddress != 7 {
				t.Errorf("an address may have %d streams, want 7", h.Config().MaxPerAddress)
			}
			mustPublish(t, url, name)
			r.expect(name)
			eventually(t, "a new stream to be allowed", func() bool {
				s := connect(t, url)
				s.cancel()
				return s.status == http.StatusOK
			})
		})
	}
	if err := reload(t, good); err != nil {
		t.Fatal(err)
	}
	mustPublish(t, url, "on")
	r.expect("on")
}

func TestChangedLimitsKeepTheLog(t *testing.T) {
	address := freeAddress(t)
	url := "http://" + address + "/live/a"
	load(t, site(address, "", allowAnything))
	h := theHub(t, "default")
	mustPublish(t, url, "kept")
	if err := reload(t, site(address, "\tevstream {\n\t\tmax_event 4B\n\t\tmax_connections_per_ip 9\n\t\thistory 50 2h\n\t}", allowAnything)); err != nil {
		t.Fatal(err)
	}
	if theHub(t, "default") != h || h.Config().MaxPerAddress != 9 {
		t.Error("the hub is another one, or has its old limits")
	}
	if status, body := post(t, url, "too long"); status != 413 {
		t.Errorf("the new limit does not hold: %d %s", status, body)
	}
	subscribe(t, url+"?since=earliest").expect("kept")
}

func TestHostsTellHandlersOfOneMountApart(t *testing.T) {
	address := freeAddress(t)
	_, port, _ := strings.Cut(address, ":")
	config := func(a, b string) string {
		one := "http://%s:" + port + " {\n\tbind 127.0.0.1\n\tevstream /live/* {\n\t\tallow anyone subscribe,publish %s\n\t}\n}\n"
		return options("") + fmt.Sprintf(one, "a.test", a) + fmt.Sprintf(one, "b.test", b)
	}
	load(t, config("**", "**"))
	url := "http://" + address + "/live/x"
	a := subscribe(t, url, header("Host", "a.test"))
	b := subscribe(t, url, header("Host", "b.test"))
	if err := reload(t, config("**", "y")); err != nil {
		t.Fatal(err)
	}
	b.ended()
	mustPublish(t, url, "on", header("Host", "a.test"))
	a.expect("on")
}

func TestUndecidableHandlersMustAllAllow(t *testing.T) {
	address := freeAddress(t)
	config := func(a, b string) string {
		return options("") + "http://" + address + ` {
	@a header X-Which a
	evstream @a {
		mount /live
		allow anyone subscribe,publish ` + a + `
	}
	evstream /live/* {
		allow anyone subscribe,publish ` + b + `
	}
}
`
	}
	load(t, config("**", "**"))
	url := "http://" + address + "/live/"
	x, y := subscribe(t, url+"x"), subscribe(t, url+"y")
	if err := reload(t, config("y", "**")); err != nil {
		t.Fatal(err)
	}
	x.ended()
	mustPublish(t, url+"y", "on")
	y.expect("on")
}

// The Caddyfile names servers by their place in the file's addresses.
func TestServerIsKnownByItsAddressThoughItsNameChanges(t *testing.T) {
	address := freeAddress(t)
	load(t, site(address, "", allowAnything))
	r := subscribe(t, "http://"+address+"/live/a")
	if got := serverOf(t); got != "srv0" {
		t.Fatalf("the server's name is %s", got)
	}
	// A shorter site address sorts before it.
	more := freeAddress(t)
	if err := reload(t, site(address, "", allowAnything)+"http://:"+more[strings.LastIndex(more, ":")+1:]+" {\n\trespond hello\n}\n"); err != nil {
		t.Fatal(err)
	}
	mustPublish(t, "http://"+address+"/live/a", "on")
	r.expect("on")
	t.Log("now named", serverOf(t))
}

func TestOnReloadDrainEndsTheReplacedStreams(t *testing.T) {
	address := freeAddress(t)
	load(t, site(address, "", allowAnything+"\n\t\ton_reload drain 50ms"))
	r := subscribe(t, "http://"+address+"/live/a")
	if err := reload(t, site(address, "", allowAnything)); err != nil {
		t.Fatal(err)
	}
	r.ended()
	h := theHub(t, "default")
	eventually(t, "the stream to end", func() bool { return len(h.Sessions()) == 0 })
	if h.Stats().Disconnects[stream.ReasonReload] != 1 {
		t.Errorf("streams ended for %v", h.Stats().Disconnects)
	}
}

// A request may pass a handler just before its configuration is replaced, and
// become a stream just after.
func TestStreamThatBeginsInAReplacedConfigurationFollowsTheOthers(t *testing.T) {
	address := freeAddress(t)
	load(t, site(address, "", allowAnything))
	r := subscribe(t, "http://"+address+"/live/a")
	h := theHub(t, "default")
	old := running.get().handlers[0].api
	if err := reload(t, site(address, "", "\t\tallow anyone all a")); err != nil {
		t.Fatal(err)
	}
	late := httptest.NewServer(old)
	t.Cleanup(late.Close)
	s := subscribe(t, late.URL+"/live/a", header("Host", address))
	for _, l := range h.Sessions() {
		if httpapi.HandlerOf(h, l) != running.get().handlers[0].api {
			t.Error("it belongs to the replaced configuration still")
		}
	}
	mustPublish(t, "http://"+address+"/live/a", "on")
	s.expect("on")
	s.cancel()
	before := h.Stats().Refusals["reload"]
	refused := connect(t, late.URL+"/live/b", header("Host", address))
	if e, err := refused.events.Next(); err != io.EOF {
		t.Errorf("a channel that is not allowed any more: %+v, %v", e, err)
	}
	if n := h.Stats().Refusals["reload"] - before; n != 1 {
		t.Errorf("%d refusals are counted, want 1", n)
	}
	r.cancel()
}

// serverOf is the name of the server that the one stream came to.
func serverOf(t *testing.T) string {
	t.Helper()
	h := theHub(t, "default")
	by := httpapi.HandlerOf(h, h.Sessions()[0])
	for _, handler := range running.get().handlers {
		if handler.api == by {
			return handler.route.server
		}
	}
	t.Fatal("the stream has no handler of the configuration that runs")
	return ""
}

func TestNothingIsLeftWhenCaddyStops(t *testing.T) {
	address := freeAddress(t)
	load(t, site(address, "\tevstream chat", allowAnything))
	r := subscribe(t, "http://"+address+"/live/a")
	if err := caddy.Stop(); err != nil {
		t.Fatal(err)
	}
	r.ended()
	noHubs(t)
	if running.get() != nil {
		t.Error("a configuration still runs")
	}
}

// labelledAdapter is a memory log with an identity of its own, and with a
// setting that is not part of it.
type labelledAdapter struct {
	Label string `json:"label"`
	Color string `json:"color,omitempty"`
}

func init() { caddy.RegisterModule(new(labelledAdapter)) }

func (*labelledAdapter) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "evstream.adapters.labelled", New: func() caddy.Module { return new(labelledAdapter) }}
}
func (a *labelledAdapter) Identity(string) string { return a.Label }
func (*labelledAdapter) Open(string, *slog.Logger) (broker.Log, error) {
	return broker.NewMemory(), nil
}

func (a *labelledAdapter) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next()
	if !d.AllArgs(&a.Label, &a.Color) {
		return d.ArgErr()
	}
	return nil
}

func TestAnotherLogEndsTheStreamsAndAnotherColorDoesNot(t *testing.T) {
	address := freeAddress(t)
	config := func(adapter string) string {
		return site(address, "\tevstream {\n\t\tadapter "+adapter+"\n\t}", allowAnything)
	}
	load(t, config("labelled one red"))
	url := "http://" + address + "/live/a"
	r := subscribe(t, url)
	h := theHub(t, "default")
	if err := reload(t, config("labelled one blue")); err != nil {
		t.Fatal(err)
	}
	mustPublish(t, url, "on")
	r.expect("on")
	if theHub(t, "default") != h {
		t.Error("the color made another log")
	}
	for _, other := range []string{"labelled two blue", "memory"} {
		if err := reload(t, config(other)); err != nil {
			t.Fatal(err)
		}
		r.ended()
		if theHub(t, "default") == h {
			t.Errorf("%s goes on with the log of another", other)
		}
		h = theHub(t, "default")
		eventually(t, "a stream of the new log", func() bool {
			r = connect(t, url)
			return r.status == http.StatusOK && len(h.Sessions()) == 1
		})
	}
}
