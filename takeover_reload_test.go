package evstream

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/evstream/caddy-evstream/stream"
)

// A stream belongs to the handler that its request came through, and goes on as long as
// what stands behind that one is the same, over any number of reloads.
func TestReloadsTellApplicationsThatHandOverApart(t *testing.T) {
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Evstream-Channels", "of"+strings.ReplaceAll(r.URL.Path, "/", "."))
	}))
	t.Cleanup(app.Close)
	address := freeAddress(t)
	config := func(one, two, heartbeat string) string {
		return options("") + fmt.Sprintf(`http://%s {
	evstream /live/* {
		allow anyone all **
	}
	route /one/* {
		evstream {
			handoff
			drain 100ms
			heartbeat %s
		}
		uri strip_prefix /one
		reverse_proxy /x* %s {
			header_up X-App %s
		}
		reverse_proxy %[3]s
	}
	route /two/* {
		evstream {
			handoff
			drain 100ms
			heartbeat %[2]s
		}
		reverse_proxy %[3]s {
			header_up X-App %[5]s
		}
	}
}
`, address, heartbeat, strings.TrimPrefix(app.URL, "http://"), one, two)
	}
	load(t, config("1", "1", "15s"))
	one, two := subscribe(t, "http://"+address+"/one/x"), subscribe(t, "http://"+address+"/two/x")
	h := theHub(t, "default")
	told := func() uint64 { return h.Stats().Disconnects[stream.ReasonReload] }
	for i, heartbeat := range []string{"16s", "17s", "18s"} {
		if err := reload(t, config("1", "1", heartbeat)); err != nil {
			t.Fatal(err)
		}
		mustPublish(t, "http://"+address+"/live/of.x", fmt.Sprint(i))
		one.expect(fmt.Sprint(i))
		mustPublish(t, "http://"+address+"/live/of.two.x", fmt.Sprint("two ", i))
		two.expect(fmt.Sprint("two ", i))
	}
	if n := told(); n != 0 {
		t.Fatalf("%d streams were told to come back", n)
	}
	if err := reload(t, config("1", "2", "15s")); err != nil {
		t.Fatal(err)
	}
	two.ended()
	mustPublish(t, "http://"+address+"/live/of.x", "still")
	one.expect("still")
	// Behind a handler that has changed the path, too.
	if err := reload(t, config("2", "2", "15s")); err != nil {
		t.Fatal(err)
	}
	one.ended()
	eventually(t, "2 streams to have been told to come back", func() bool { return told() == 2 }) // a client may know first
	// A block of another kind in the same place has not decided on a stream.
	last := subscribe(t, "http://"+address+"/one/x")
	if err := reload(t, strings.Replace(config("2", "2", "15s"), "handoff", "resume a\nallow anyone subscribe **", 1)); err != nil {
		t.Fatal(err)
	}
	last.ended()
}
