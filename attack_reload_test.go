package evstream

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/evstream/caddy-evstream/stream"
)

// A guard that a reload puts in front sees the streams that were open before: they
// are told to come back. What has nothing to do with their way ends none.

// guardOf is basic_auth with a matcher, for the user alice with the password "hiccup".
func guardOf(matcher string) string {
	return "basic_auth " + matcher + " {\n\t\talice " + guardHash + "\n\t}\n"
}

const liveHandler = "evstream /live/* {\n\t\tdrain 100ms\n\t\tallow anyone all **\n\t}\n"

// inner is a handler within a block that has its matcher.
const inner = "\t\tevstream {\n\t\t\tmount /live\n\t\t\tdrain 100ms\n\t\t\tallow anyone all **\n\t\t}\n"

// besideLive is a handler that some requests reach before liveHandler.
const besideLive = "@m header X-A b\n\tevstream @m {\n\t\tmount /live\n\t\tdrain 1ms\n\t\tallow anyone all **\n\t}\n"

var reroutings = []struct {
	name          string
	before, after string // what the site holds
	comesBack     bool
	status        int // then; 0 is not asked
}{
	{"a guard before the handler", liveHandler, guardOf("/live/*") + liveHandler, true, 401},
	{"a guard of the whole site", liveHandler, guardOf("*") + liveHandler, true, 401},
	{"a guard by a named matcher", liveHandler, "@m path /live/*\n" + guardOf("@m") + liveHandler, true, 401},
	{"forward_auth", liveHandler, "forward_auth /live/* APP {\n\turi /\n}\n" + liveHandler, true, 401},
	{"another user of the guard", guardFor("bob") + liveHandler, guardOf("/live/*") + liveHandler, true, 401},
	{"forward_auth asks elsewhere", "forward_auth /live/* APP {\n\turi /yes\n}\n" + liveHandler, "forward_auth /live/* APP {\n\turi /no\n}\n" + liveHandler, true, 401},
	{"the guard is gone", "forward_auth /live/* APP {\n\turi /yes\n}\n" + liveHandler, liveHandler, true, 200},
	{"a guard in route", "route {\n" + liveHandler + "}\n", "route {\n" + guardOf("/live/*") + liveHandler + "}\n", true, 401},
	{"a guard in handle", "handle /live/* {\n" + inner + "}\n", "handle /live/* {\n" + guardOf("*") + inner + "}\n", true, 401},
	{"a guard before handle_path", "handle_path /live/* {\nevstream {\ndrain 100ms\nallow anyone all **\n}\n}\n", guardOf("/live/*") + "handle_path /live/* {\nevstream {\ndrain 100ms\nallow anyone all **\n}\n}\n", true, 401},
	{"a guard in a snippet", "import live \"\"\n", "import guarded\nimport live \"\"\n", true, 401},
	{"a guard in a named route", "invoke hub\n", "invoke guarded-hub\n", true, 401},
	{"a matcher around the handler", "handle {\n" + inner + "}\n", "@m header X-Key secret\nhandle @m {\n" + inner + "}\n", true, 418},
	{"a named matcher that was changed", "@m path /live/*\nhandle @m {\n" + inner + "}\n", "@m {\npath /live/*\nheader X-Key secret\n}\nhandle @m {\n" + inner + "}\n", true, 418},
	{"an answer before the handler", "route {\n" + liveHandler + "}\n", "route {\nrespond /live/a 403\n" + liveHandler + "}\n", true, 403},
	{"another way that comes first", "handle /live/* {\n" + inner + "}\n", "handle /live/a* {\nrespond 403\n}\nhandle /live/* {\n" + inner + "}\n", true, 403},
	{"a handler behind the answer of a proxy", behindAnswer("/yes"), behindAnswer("/no"), true, 401},
	{"a guard before one", behindAnswer("/yes"), guardOf("/live/*") + behindAnswer("/yes"), true, 401},

	{"an equal one", behindAnswer("/yes"), behindAnswer("/yes"), false, 200},
	{"nothing", guardFor("") + liveHandler, guardFor("") + liveHandler, false, 200},
	{"a guard of other paths", liveHandler, guardOf("/admin/*") + liveHandler, false, 200},
	{"a handler for other paths", liveHandler, "respond /hello 200\nredir /old /new\n" + liveHandler, false, 200},
	{"a route of other paths", "handle /api/* {\nrespond 200\n}\nhandle /live/* {\n" + inner + "}\n", "handle /api/* {\n" + guardOf("*") + "respond 201\n}\nhandle /live/* {\n" + inner + "}\n", false, 200},
	{"a later handler", "route {\n" + liveHandler + "respond 200\n}\n", "route {\n" + liveHandler + guardOf("*") + "respond 201\n}\n", false, 200},
	{"options of the handler", liveHandler, strings.Replace(liveHandler, "drain", "heartbeat 20s\ndrain", 1), false, 200},
	{"an equal proxy in front", "forward_auth /live/* APP {\n\turi /yes\n}\n" + liveHandler, "forward_auth /live/* APP {\n\turi /yes\n}\n" + liveHandler + "respond /more 200\n", false, 200},
	{"a header in front that stays", "header X-A b\nencode gzip\n" + liveHandler, "header X-A b\nencode gzip\n" + liveHandler + "respond /hello 200\n", false, 200},
	{"a header of answers that changes", "header X-A b\n" + liveHandler, "header X-A c\nencode gzip\n" + liveHandler, false, 200},
	{"a header of requests that changes", "request_header X-A b\n" + liveHandler, "request_header X-A c\n" + liveHandler, true, 200},
	{"an equal named route", "invoke hub\n", "invoke hub\nrespond /x 200\n", false, 200},
	{"the lines of another handler in front", "route {\n" + besideLive + liveHandler + "}\n", "# Below this line.\nroute {\n" + besideLive + liveHandler + "}\n", false, 200},
	{"error routes", liveHandler, liveHandler + "handle_errors {\nrespond 500\n}\n", false, 200},
}

// guardFor is forward_auth that lets everybody pass, for the rows that need a guard
// through which a stream gets.
func guardFor(name string) string {
	return "forward_auth /live/* APP {\n\turi /yes/" + name + "\n}\n"
}

// behindAnswer has the handler in the routes of another module: a proxy, if its
// application says 200.
func behindAnswer(uri string) string {
	return "route {\nreverse_proxy /live/* APP {\nmethod GET\nrewrite " + uri + "\n@ok status 200\nhandle_response @ok {\n" + inner + "}\n}\n}\n"
}

func TestStreamsComeBackWhereAReloadPutsAGuardInFront(t *testing.T) {
	for _, tt := range reroutings {
		t.Run(tt.name, func(t *testing.T) {
			address, app := freeAddress(t), freeAddress(t)
			n := 0
			config := func(block string) string {
				n++ // another site, which has nothing to do with it, changes with each reload
				return options("") + fmt.Sprintf(`
(live) {
	%[1]s
}
(guarded) {
	%[2]s
}
&(hub) {
	%[1]s
}
&(guarded-hub) {
	%[2]s
	%[1]s
}
http://other.test:%[5]s {
	handle /live/* {
		respond %[4]d
	}
	handle {
		respond "another site"
	}
}
http://%[3]s {
	%[6]s
	respond "the rest of the site" 418
}
http://%[7]s {
	respond /yes* 200
	respond 401
}
`, liveHandler, guardOf("/live/*"), address, 200+n, address[strings.Index(address, ":")+1:], strings.ReplaceAll(block, "APP", app), app)
			}
			load(t, config(tt.before))
			url := "http://" + address + "/live/a"
			s := subscribe(t, url)
			several := subscribe(t, "http://"+address+"/live/?channel=a&channel=b/*")
			h := theHub(t, "default")
			if err := reload(t, config(tt.after)); err != nil {
				t.Fatal(err)
			}
			if tt.comesBack {
				eventually(t, "the stream to be told", func() bool { return h.Stats().Disconnects[stream.ReasonReload] > 0 })
				s.ended()                                                                                   // with a retry
				if tt.name != "an answer before the handler" && tt.name != "another way that comes first" { // they are for the other path
					several.ended()
				}
			}
			again := connect(t, url)
			if again.status != tt.status {
				t.Errorf("coming back is answered %d, want %d", again.status, tt.status)
			}
			again.cancel()
			if !tt.comesBack {
				mustPublish(t, url, "still there")
				s.expect("still there")
				several.expect("still there")
				if n := h.Stats().Disconnects[stream.ReasonReload]; n != 0 {
					t.Errorf("%d streams have ended for the reload", n)
				}
			}
		})
	}
}

// A body that goes on publishing, past a guard that it has not seen, is told to come
// back, too.
func TestABodyThatGoesOnDoesNotPassAGuardOfAReload(t *testing.T) {
	address := freeAddress(t)
	config := func(guard string) string {
		return options("") + "http://" + address + " {\n" + guard + liveHandler + "}\n"
	}
	load(t, config(""))
	url := "http://" + address + "/live/a"
	s := subscribe(t, url)
	body, feed := io.Pipe()
	answers := make(chan int, 1)
	go func() {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, body)
		if err != nil {
			t.Error(err)
			return
		}
		r.Header.Set("Content-Type", "application/x-ndjson")
		resp, err := client.Do(r)
		if err != nil {
			t.Error(err)
			answers <- 0
			return
		}
		resp.Body.Close()
		answers <- resp.StatusCode
	}()
	fmt.Fprintln(feed, "1")
	s.expect("1")
	if err := reload(t, config(guardOf("/live/*"))); err != nil {
		t.Fatal(err)
	}
	s.ended()
	go func() {
		fmt.Fprintln(feed, "2")
		feed.Close()
	}()
	if status := <-answers; status != http.StatusServiceUnavailable {
		t.Errorf("the body is answered %d", status)
	}
}
