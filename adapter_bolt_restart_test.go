package evstream

import (
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	gojwt "github.com/golang-jwt/jwt/v5"

	"github.com/evstream/caddy-evstream/internal/authtest"
)

// TestACaddyThatIsKilledComesBackWithAllThatItKnew: events, values, idempotency keys, who is
// revoked and which tickets are in use.
func TestACaddyThatIsKilledComesBackWithAllThatItKnew(t *testing.T) {
	address, dir := freeAddress(t), filepath.Join(t.TempDir(), "log")
	config := func(admin string) string {
		return withAdmin(admin, address, bolt(dir, ""),
			"\t\tjwt {\n\t\t\tkey \""+authtest.Secret+"\"\n\t\t}\n\t\ttickets {\n\t\t\tlifetime 5s\n\t\t\tkey \"a key of thirty-two bytes or more\"\n\t\t}\n\t\tallow anyone subscribe,publish,state **")
	}
	first := startCaddy(t, config)
	awaitReady(t, first.admin)
	base := "http://" + address + "/live/"
	id := func(body string) string {
		_, rest, _ := strings.Cut(body, `"id":"`)
		id, _, _ := strings.Cut(rest, `"`)
		return id
	}
	key := header("Idempotency-Key", "k")
	_, one := send(t, "POST", base+"a", "one", key)
	mustPublish(t, base+"a", "two")
	if status, body := send(t, "PUT", base+"v", `{"n":1}`); status/100 != 2 {
		t.Fatal(status, body)
	}
	iat := time.Now().Unix() - 10
	bob := authtest.Bearer(t, gojwt.MapClaims{"sub": "bob", "jti": "b1", "iat": iat})
	revoke(t, "http://"+first.admin+"/evstream/_revocations", `{"user":"bob"}`)
	used := askTicket(t, address, authtest.Sign(t, "HS256", authtest.Alice(nil)))
	unused := askTicket(t, address, authtest.Sign(t, "HS256", authtest.Alice(nil)))
	worthless := time.Now().Add(5 * time.Second)
	stream := subscribe(t, base+"a?ticket="+used)
	mustPublish(t, base+"a", "three")
	stream.expect("three")
	if id(one) == "" {
		t.Fatalf("the answer to a publish is %s", one)
	}

	if err := first.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	first.ended <- <-first.ended
	stream.cancel()
	second := startCaddy(t, config)
	awaitReady(t, second.admin)

	back := subscribe(t, base+"a", header("Last-Event-ID", id(one)))
	back.expect("two")
	back.expect("three")
	if status, body := send(t, "POST", base+"a", "one", key); status != http.StatusOK || id(body) != id(one) {
		t.Errorf("a key of before: %d %s, and the first answer was %s", status, body, one)
	}
	if _, body := send(t, "GET", base+"v", "", header("Accept", "application/json")); !strings.Contains(body, `{"n":1}`) {
		t.Errorf("the value is %s", body)
	}
	if s := connect(t, base+"a", bob); s.status != http.StatusUnauthorized {
		t.Errorf("who was revoked gets %d", s.status)
	}
	if _, body := send(t, "GET", "http://"+second.admin+"/evstream/_revocations", ""); !strings.Contains(body, `"bob"`) {
		t.Errorf("revoked are %s", body)
	}
	eventually(t, "the tickets to be worthless that are not in use", func() bool { return time.Now().After(worthless) })
	if s := connect(t, base+"a?ticket="+unused); s.status != http.StatusUnauthorized {
		t.Errorf("a ticket that was not in use opens a stream: %d", s.status)
	}
	again := subscribe(t, base+"a?ticket="+used, header("Last-Event-ID", id(one)))
	again.expect("two")
	mustPublish(t, base+"a", "four")
	back.expect("four")
}
