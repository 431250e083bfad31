package evstream

import (
	"strings"
	"testing"
	"time"
)

// The limits and the rules of a new configuration hold once it runs, and those
// of one that fails never do.
func TestChannelRulesChangeWithAReload(t *testing.T) {
	address := freeAddress(t)
	config := func(types, more string) string {
		return site(address, "\tevstream {\n\t\tchannel a {\n\t\t\tevent_types "+types+"\n\t\t}\n\t}", allowAnything) + more
	}
	load(t, config("one", ""))
	url := "http://" + address + "/live/a?event="
	check := func(typ string, want int) {
		t.Helper()
		resp, err := client.Post(url+typ, "text/plain", strings.NewReader("x"))
		for until := time.Now().Add(patience); err != nil; { // a reload may close a connection before its request is read
			if time.Now().After(until) {
				t.Fatal(err)
			}
			resp, err = client.Post(url+typ, "text/plain", strings.NewReader("x"))
		}
		defer resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("%s: %d", typ, resp.StatusCode)
		}
	}
	check("one", 200)
	check("two", 422)
	if err := reload(t, config("two", "")); err != nil {
		t.Fatal(err)
	}
	check("one", 422)
	check("two", 200)
	if err := reload(t, site(address, "\tevstream {\n\t\tchannel a {\n\t\t\tschema /nowhere.json\n\t\t}\n\t}", allowAnything)); err == nil || !strings.Contains(err.Error(), "/nowhere.json") {
		t.Fatalf("a schema that is not there: %v", err)
	}
	check("two", 200)
	if err := reload(t, config("one", "http://127.0.0.1:1 {\n\tevstream {\n\t\tbroker default\n\t\tbearer x {env.NOT_SET_ANYWHERE}\n\t\tallow x all **\n\t}\n}\n")); err == nil {
		t.Fatal("a configuration without its secret runs")
	}
	check("one", 422)
	check("two", 200)
}

func TestTheAdminEndpointIsHeldToWhatChannelsTake(t *testing.T) {
	address, admin := freeAddress(t), freeAddress(t)
	load(t, withAdmin(admin, address, "\tevstream {\n\t\tpublish_rate 1 1\n\t\tchannel a {\n\t\t\tevent_types one\n\t\t}\n\t}", allowAnything))
	if status, body := post(t, "http://"+admin+"/evstream/a", "x"); status != 422 {
		t.Errorf("%d %s", status, body)
	}
	for range 5 {
		if status, body := post(t, "http://"+admin+"/evstream/a?event=one", "x"); status != 200 {
			t.Errorf("%d %s", status, body)
		}
	}
}
