package evstream

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
)

// What a name leads to by DNS, or by a redirect that a resolver plays, is not
// what the operator wrote. What defends is guard.check at the moment of
// connecting: without it, whoever holds the name reaches this host's network.
func TestAddressesThatAreNotPublicHaveToBeAllowed(t *testing.T) {
	const (
		no      = iota // never
		literal        // where it is written as such
		private        // and with allow_private
		always
	)
	for _, tt := range []struct {
		address string
		allowed int
	}{
		{"93.184.216.34:443", always},
		{"[2606:2800:220:1:248:1893:25c8:1946]:443", always},
		{"127.0.0.1:443", private},
		{"127.8.8.8:443", private},
		{"[::1]:443", private},
		{"[::ffff:127.0.0.1]:443", private},
		{"10.0.0.5:443", private},
		{"172.16.0.1:443", private},
		{"192.168.1.1:443", private},
		{"[fd00::1]:443", private},
		{"100.64.0.1:443", private},
		{"169.254.169.254:80", literal}, // where clouds tell secrets
		{"[fe80::1]:443", literal},
		{"[::ffff:169.254.169.254]:80", literal},
		{"0.0.0.0:443", literal},
		{"[::]:443", literal},
		{"[64:ff9b::7f00:1]:443", literal},
		{"[2002:7f00:1::]:443", literal},
		{"224.0.0.1:443", literal},
		{"255.255.255.255:443", literal},
		{"nonsense", no},
	} {
		t.Run(tt.address, func(t *testing.T) {
			host := strings.Trim(tt.address[:max(0, strings.LastIndexByte(tt.address, ':'))], "[]")
			for _, g := range []struct {
				guard guard
				want  bool
			}{
				{guard{host: "app.example.com"}, tt.allowed == always},
				{guard{host: "app.example.com", private: true}, tt.allowed >= private},
				{guard{host: host}, tt.allowed >= literal},
				{guard{host: "10.9.9.9"}, tt.allowed == always},
			} {
				err := g.guard.check("tcp", tt.address, nil)
				if (err == nil) != g.want || err != nil && !errors.Is(err, errAddress) {
					t.Errorf("%+v: %v", g.guard, err)
				}
			}
		})
	}
	if err := (&guard{host: "localhost"}).check("tcp", "127.0.0.1:443", nil); err != nil {
		t.Errorf("localhost: %v", err)
	}
	if err := (&guard{host: "localhost"}).check("tcp", "10.0.0.5:443", nil); err == nil {
		t.Error("localhost may lead anywhere")
	}
}

// The admin endpoint answers anybody on this host, so verify could be pointed
// at it by accident and take its 200 for a yes. What defends is ownPort: without
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

func TestExpiringEntriesLeaveAndAreBounded(t *testing.T) {
	e := expiring[int, string]{limit: 2000}
	now := time.Unix(1763700000, 0)
	for i := range 2000 {
		until := now.Add(time.Minute)
		if i%2 == 0 {
			until = time.Time{}
		}
		if !e.put(i, fmt.Sprint(i), until, now) {
			t.Fatalf("%d found no room", i)
		}
	}
	if e.put(2000, "x", time.Time{}, now) {
		t.Error("it holds more than its limit")
	}
	if !e.put(0, "changed", time.Time{}, now) {
		t.Error("what is there cannot be changed")
	}
	later := now.Add(time.Minute)
	if v, ok := e.get(0, later); !ok || v != "changed" {
		t.Errorf("got %q, %t", v, ok)
	}
	if _, ok := e.get(1, later); ok {
		t.Error("an entry did not leave")
	}
	if !e.put(2000, "x", time.Time{}, later) || len(e.entries) != 1001 {
		t.Errorf("%d entries are left", len(e.entries))
	}
}
