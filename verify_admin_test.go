package evstream

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// The admin endpoint answers anybody on this host, so verify could be pointed
// at it by accident and take its 200 for a yes. What defends is forbidOwnPort: without
// it the poll is allowed. The sites of the same Caddy can be asked.
func TestTheAdminEndpointIsNeverAsked(t *testing.T) {
	address, admin := freeAddress(t), freeAddress(t)
	config := func(url string) string {
		return fmt.Sprintf(`{
	admin %s
	persist_config off
	auto_https off
}
http://%s {
	respond /whoami 204
	evstream /live/* {
		verify %s
		allow anyone subscribe,publish **
	}
}
`, admin, address, url)
	}
	load(t, config("http://"+admin+"/config/"))
	poll := "http://" + address + "/live/a?poll=1"
	for _, url := range []string{"http://" + admin + "/config/", "http://localhost:" + strings.Split(admin, ":")[1] + "/id/"} {
		if err := reload(t, config(url)); err != nil {
			t.Fatal(err)
		}
		if status, body := send(t, "GET", poll, "", header("Accept", "application/json")); status != http.StatusServiceUnavailable {
			t.Errorf("got %d %s", status, body)
		}
		// A stream is asked to come back instead, as any other status would end
		// an EventSource for good. It gets nothing.
		s := connect(t, "http://"+address+"/live/a")
		if s.status != http.StatusOK {
			t.Errorf("a stream got %d", s.status)
		}
		s.ended()
	}
	if err := reload(t, config("http://"+address+"/whoami")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the site to be asked", func() bool {
		status, _ := send(t, "GET", poll, "", header("Accept", "application/json"))
		return status == http.StatusOK
	})
}
