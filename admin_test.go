package evstream

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
)

func TestAdminEndpointServesTheVerbsWithoutToken(t *testing.T) {
	address, admin := freeAddress(t), freeAddress(t)
	config := withAdmin(admin, address, "\tevstream chat", "\t\tallow anyone subscribe **")
	load(t, config)
	base := "http://" + admin + "/evstream"

	site := subscribe(t, "http://"+address+"/live/match.7")
	own := subscribe(t, base+"/match.7")
	both := subscribe(t, base+"/?channel=match.*")
	mustPublish(t, base+"/match.7", "goal")
	for _, s := range []*caddyStream{site, own, both} {
		s.expect("goal")
	}

	chat := subscribe(t, base+"/a?broker=chat")
	mustPublish(t, base+"/a?broker=chat", "hello")
	chat.expect("hello")

	for name, row := range map[string]struct {
		method, path string
		status       int
		want         string
	}{
		"unknown broker": {"POST", "/a?broker=chatt", 404, `there is no broker \"chatt\"; the brokers are: chat, default`},
		"no channel":     {"POST", "", 405, `"type":"urn:evstream:problem:bad-method"`},
		"mount's slash":  {"POST", "/", 0, ""},
		"bad name":       {"POST", "/a%20b", 400, `"type":"urn:evstream:problem:bad-channel"`},
		"channels":       {"GET", "/_channels", 200, `match.7`},
		"info":           {"GET", "/match.7?info", 200, `"match.7"`},
	} {
		t.Run(name, func(t *testing.T) {
			status, body := send(t, row.method, base+row.path, "x", header("Accept", "application/json"))
			if row.status != 0 && status != row.status || !strings.Contains(body, row.want) {
				t.Errorf("got %d %s, want %d and %s", status, body, row.status, row.want)
			}
			if status == http.StatusInternalServerError {
				t.Errorf("got %d %s", status, body)
			}
		})
	}
}

func TestAdminEndpointWorksAfterAFailedReload(t *testing.T) {
	address, admin := freeAddress(t), freeAddress(t)
	good := withAdmin(admin, address, "", allowAnything)
	load(t, good)
	r := subscribe(t, "http://"+address+"/live/a")
	own := subscribe(t, "http://"+admin+"/evstream/a")
	bad := withApp(t, withAdmin(admin, address, "\tevstream {\n\t\tmax_event 1B\n\t}\n\tevstream other", allowAnything), `"evstream_test_failing":{}`)
	if err := reloadJSON(t, bad); err == nil {
		t.Fatal("the reload succeeded")
	}
	mustPublish(t, "http://"+admin+"/evstream/a", "still here")
	r.expect("still here")
	own.expect("still here")
	status, body := send(t, "POST", "http://"+admin+"/evstream/a?broker=other", "x")
	if status != http.StatusNotFound || !strings.Contains(body, "the brokers are: default") {
		t.Errorf("the aborted configuration's broker: %d %s", status, body)
	}
}

func TestAdminStreamsLiveOnAndEndWithTheirBroker(t *testing.T) {
	address, admin := freeAddress(t), freeAddress(t)
	load(t, withAdmin(admin, address, "\tevstream chat", allowAnything))
	base := "http://" + admin + "/evstream/a"
	kept, gone := subscribe(t, base), subscribe(t, base+"?broker=chat")
	for i := range 3 {
		if err := reload(t, withAdmin(admin, address, fmt.Sprintf("\tevstream {\n\t\tmax_channels %d\n\t}", i+10), allowAnything)); err != nil {
			t.Fatal(err)
		}
	}
	gone.ended()
	mustPublish(t, base, "on")
	kept.expect("on")
}

func TestAdminEndpointWithoutAConfiguration(t *testing.T) {
	admin := freeAddress(t)
	load(t, "{\n\tadmin "+admin+"\n\tpersist_config off\n}\n")
	status, body := send(t, "POST", "http://"+admin+"/evstream/a", "x")
	if status != http.StatusNotFound || !strings.Contains(body, "no configuration with a broker is running") {
		t.Errorf("got %d %s", status, body)
	}
}
