package evstream

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/caddyserver/caddy/v2"

	"github.com/evstream/caddy-evstream/internal/redistest"
)

// healthOf asks an admin endpoint for its health: "live", "ready?exclude=room". It returns
// the status, and what an answer of 200 or a problem says.
func healthOf(t testing.TB, admin, what string) (int, string) {
	t.Helper()
	answer, body, err := answerOf(t, http.MethodGet, "http://"+admin+"/evstream/_health/"+what, "")
	if err != nil {
		t.Fatal(err)
	}
	var doc struct {
		Type, Detail, Status any
		Brokers              []string
	}
	if err := json.Unmarshal([]byte(body), &doc); err != nil {
		t.Fatalf("%s is answered %s: %v", what, body, err)
	}
	if answer.StatusCode == http.StatusOK {
		return answer.StatusCode, doc.Status.(string) + " " + strings.Join(doc.Brokers, ",")
	}
	if doc.Type == nil || answer.Header.Get("Content-Type") != "application/problem+json" || (answer.StatusCode == 503) != (answer.Header.Get("Retry-After") != "") {
		t.Errorf("%s is answered with %v, and no problem: %s", what, answer.Header, body)
	}
	return answer.StatusCode, doc.Detail.(string)
}

func TestHealthIsToldForEachBroker(t *testing.T) {
	address, admin := freeAddress(t), freeAddress(t)
	load(t, withAdmin(admin, address, "\tevstream\n\tevstream chat", allowAnything))
	for _, tt := range []struct {
		ask    string
		status int
		want   string
	}{
		{"live", 200, "live chat,default"},
		{"ready", 200, "ready chat,default"},
		{"ready?broker=chat", 200, "ready chat"},
		{"ready?exclude=room&exclude=loading", 200, "ready chat,default"},
		{"live?exclude=room", 400, `/evstream/_health/live has no parameter "exclude", but broker`},
		{"ready?exlude=room", 400, `/evstream/_health/ready has no parameter "exlude", but broker and exclude`},
		{"ready?exclude=rooms", 400, `there is no check "rooms" to exclude; the checks are: log, loading, room, exit`},
		{"ready?broker=x", 404, `there is no broker "x"; the brokers are: chat, default`},
		{"", 404, "health is told at /evstream/_health/live and /evstream/_health/ready"},
		{"readyz", 404, "health is told at /evstream/_health/live and /evstream/_health/ready"},
	} {
		if status, said := healthOf(t, admin, tt.ask); status != tt.status || said != tt.want {
			t.Errorf("%q is answered %d %s", tt.ask, status, said)
		}
	}
	if status, body := send(t, http.MethodHead, "http://"+admin+"/evstream/_health/ready", ""); status != 200 || body != "" {
		t.Errorf("HEAD is answered %d %q", status, body)
	}
	if status, _ := send(t, http.MethodPost, "http://"+admin+"/evstream/_health/ready", ""); status != 405 {
		t.Errorf("POST is answered %d", status)
	}
	// A configuration without a broker is alive.
	if err := reload(t, "{\n\tadmin "+admin+"\n\tpersist_config off\n}\n"); err != nil {
		t.Fatal(err)
	}
	if status, said := healthOf(t, admin, "live"); status != 200 {
		t.Errorf("live, without a broker: %d %s", status, said)
	}
	if status, said := healthOf(t, admin, "ready"); status != 503 || said != "no configuration with a broker is running" {
		t.Errorf("ready, without a broker: %d %s", status, said)
	}
}

func TestANodeWithoutRedisIsLiveAndNotReady(t *testing.T) {
	server := redistest.Start(t)
	way := redistest.StartProxy(t, server.Addr())
	way.Cut()
	address, admin := freeAddress(t), freeAddress(t)
	load(t, withAdmin(admin, address, "\tevstream {\n"+sharedBy(way.Addr(), "")+"\t}\n\tevstream calm", allowAnything))
	expect := func(when, ask string, status int, prefix string) {
		t.Helper()
		eventually(t, ask+" to be "+prefix+" "+when, func() bool {
			got, said := healthOf(t, admin, ask)
			return got == status && strings.HasPrefix(said, prefix)
		})
	}
	expect("at the start", "ready", 503, `broker "default", loading: the log is being loaded`)
	expect("at the start", "ready?broker=calm", 200, "ready calm")
	expect("at the start", "live", 200, "live")
	way.Heal()
	expect("with Redis", "ready", 200, "ready calm,default")
	way.Cut()
	expect("without Redis", "ready", 503, `broker "default", log: `)
	expect("without Redis", "live", 200, "live")
	expect("without Redis", "ready?exclude=log", 200, "ready")
	way.Heal()
	expect("with Redis again", "ready", 200, "ready")
	if err := server.Client().ConfigSet(t.Context(), "maxmemory", "1").Err(); err != nil {
		t.Fatal(err)
	}
	for {
		if status, _ := post(t, "http://"+address+"/live/a", "x"); status == 503 {
			break
		}
	}
	expect("without memory", "ready", 503, `broker "default", room: the log is full: its Redis has no memory left`)
	expect("without memory", "ready?exclude=room", 200, "ready")
	if err := server.Client().ConfigSet(t.Context(), "maxmemory", "0").Err(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "Redis to take something", func() bool {
		status, _ := post(t, "http://"+address+"/live/a", "x")
		return status == 200
	})
	expect("with memory", "ready", 200, "ready")
}

// awaitReady waits until the logs of a Caddy are loaded.
func awaitReady(t testing.TB, admin string) {
	t.Helper()
	eventually(t, "it to be ready", func() bool { status, _ := healthOf(t, admin, "ready"); return status == http.StatusOK })
}

func TestANodeWithoutRoomOnItsDiskIsNotReady(t *testing.T) {
	address, admin, dir := freeAddress(t), freeAddress(t), filepath.Join(t.TempDir(), "log")
	load(t, withAdmin(admin, address, bolt(dir, ""), allowAnything))
	if err := caddy.Stop(); err != nil {
		t.Fatal(err)
	}
	// As if the values had needed it once.
	if err := os.Truncate(filepath.Join(dir, "meta.db"), 64<<20); err != nil {
		t.Fatal(err)
	}
	load(t, withAdmin(admin, address, bolt(dir, "\t\t\tretain 32MiB\n\t\t\tmax_size 64MiB"), allowAnything))
	ready := func() bool { status, _ := healthOf(t, admin, "ready"); return status == 200 }
	eventually(t, "it to be ready before anything is refused", ready)
	if status, body := post(t, "http://"+address+"/live/a", "x"); status != 507 {
		t.Fatalf("published %d %s", status, body)
	}
	if status, said := healthOf(t, admin, "ready"); status != 503 || !strings.HasPrefix(said, `broker "default", room: the directory has `) {
		t.Errorf("ready is answered %d %s", status, said)
	}
	if status, said := healthOf(t, admin, "live"); status != 200 {
		t.Errorf("live is answered %d %s", status, said)
	}
	// Nobody publishes, and it learns that there is room.
	if err := reload(t, withAdmin(admin, address, bolt(dir, ""), allowAnything)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "there to be room", ready)
}

func TestAServerThatExitsIsLiveAndNotReady(t *testing.T) {
	asked, held := make(chan struct{}), make(chan struct{})
	app := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		close(asked)
		<-held
	}))
	defer app.Close()
	defer close(held)
	address := freeAddress(t)
	p := startCaddy(t, func(admin string) string {
		return withAdmin(admin, address, "", allowAnything+"\n\t}\n\treverse_proxy /held "+strings.TrimPrefix(app.URL, "http://")+" {")
	})
	go func() { // the exit waits for the answer
		if resp, err := client.Get("http://" + address + "/held"); err == nil {
			resp.Body.Close()
		}
	}()
	<-asked
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the server not to be ready", func() bool {
		status, said := healthOf(t, p.admin, "ready")
		return status == 503 && said == `broker "default", exit: the server exits`
	})
	if status, said := healthOf(t, p.admin, "live"); status != 200 {
		t.Errorf("live is answered %d %s", status, said)
	}
}
