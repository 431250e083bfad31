package evstream

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

// receiver is an application that gets events.
type receiver struct {
	*httptest.Server
	mu  sync.Mutex
	got []string
}

// newReceiver answers every event with a status, until status is replaced.
func newReceiver(t *testing.T) *receiver {
	r := new(receiver)
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		body, err := io.ReadAll(q.Body)
		if err != nil {
			t.Error(err)
		}
		var e struct {
			Type string
			Data struct {
				Session, Reason, Channel string
				Channels                 []string
				Value                    json.RawMessage
			}
		}
		if err := json.Unmarshal(body, &e); err != nil {
			t.Error(err)
		}
		if e.Data.Session == "" && strings.Contains(e.Type, "connected") {
			t.Errorf("an event of no session: %s", body)
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		r.got = append(r.got, strings.TrimSpace(fmt.Sprintln(e.Type, e.Data.Channel, e.Data.Channels, e.Data.Reason, string(e.Data.Value))))
	}))
	t.Cleanup(r.Close)
	return r
}

func (r *receiver) has(line string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Contains(r.got, line)
}

// eventRecorder is a handler of Caddy's events.
type eventRecorder struct{}

var recordedEvents struct {
	mu   sync.Mutex
	list []string
}

func init() { caddy.RegisterModule(eventRecorder{}) }

func (eventRecorder) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "events.handlers.evstream_recorder", New: func() caddy.Module { return new(eventRecorder) }}
}

func (eventRecorder) UnmarshalCaddyfile(d *caddyfile.Dispenser) error { d.Next(); return nil }

func (eventRecorder) Handle(_ context.Context, e caddy.Event) error {
	recordedEvents.mu.Lock()
	defer recordedEvents.mu.Unlock()
	recordedEvents.list = append(recordedEvents.list, fmt.Sprintln(e.Name(), e.Origin().CaddyModule().ID, e.Data["channels"], e.Data["reason"]))
	return nil
}

func TestApplicationsAndCaddyEventsAreToldOfStreams(t *testing.T) {
	app := newReceiver(t)
	address := freeAddress(t)
	config := func(block string) string {
		return site(address, "\tevents {\n\t\ton evstream.disconnected evstream_recorder\n\t}\n\tevstream {\n\t\ton connected disconnected channel_active channel_idle state_changed "+
			app.URL+"/hooks\n"+block+"\t}\n", allowAnything)
	}
	load(t, config(""))
	url := "http://" + address + "/live/"
	first, second := subscribe(t, url+"a"), subscribe(t, url+"a")
	send(t, http.MethodPut, url+"count", "42")
	for _, line := range []string{"evstream.connected  [a]", "evstream.channel_active a []", "evstream.state_changed count []  42"} {
		eventually(t, line, func() bool { return app.has(line) })
	}
	// A reload replaces the handlers, and changes nothing for a session.
	if err := reload(t, config("\t\tmax_patterns 7\n")); err != nil {
		t.Fatal(err)
	}
	first.cancel()
	eventually(t, "the first to be gone", func() bool { return app.has("evstream.disconnected  [a] client") })
	second.cancel()
	eventually(t, "a to be idle", func() bool { return app.has("evstream.channel_idle a []") })
	eventually(t, "two events of Caddy", func() bool {
		recordedEvents.mu.Lock()
		defer recordedEvents.mu.Unlock()
		return slices.Equal(recordedEvents.list, slices.Repeat([]string{"evstream.disconnected evstream [a] client\n"}, 2))
	})
	app.mu.Lock()
	defer app.mu.Unlock()
	if len(app.got) != 7 {
		t.Errorf("it was told %q", app.got)
	}
}

// An exit ends the streams first, and then sends what there is to say of them.
func TestExitTellsApplicationsOfItsStreams(t *testing.T) {
	app := newReceiver(t)
	address := freeAddress(t)
	p := startCaddy(t, func(admin string) string {
		return withAdmin(admin, address, "\tevstream {\n\t\ton disconnected channel_idle "+app.URL+"/hooks\n\t}", allowAnything+"\n\t\tdrain 100ms")
	})
	s := subscribe(t, "http://"+address+"/live/a")
	p.stop()
	s.ended()
	for _, line := range []string{"evstream.disconnected  [a] shutdown", "evstream.channel_idle a []"} {
		if !app.has(line) {
			t.Errorf("it was not told: %s", line)
		}
	}
}
