package evstream

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	gojwt "github.com/golang-jwt/jwt/v5"

	"github.com/evstream/caddy-evstream/access"
	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/hub"
	"github.com/evstream/caddy-evstream/internal/authtest"
	"github.com/evstream/caddy-evstream/internal/redistest"
	"github.com/evstream/caddy-evstream/problem"
)

// callTimeout is how long the node of a session has to answer.
const callTimeout = 2 * time.Second

// fleet is nodes of one hub, in this process: brokers with a log each in the
// same Redis, whose channels lie beneath the node's name.
type fleet struct {
	t       testing.TB
	address string
	admin   string
	ways    map[string]string // to Redis, by the node's name
}

// startFleet runs nodes that reach Redis at these addresses, and waits until
// they have read the log, but for those that cannot.
func startFleet(t testing.TB, ways map[string]string, cut ...string) *fleet {
	t.Helper()
	f := &fleet{t: t, address: freeAddress(t), admin: freeAddress(t), ways: ways}
	load(t, f.config())
	for name := range ways {
		if !slices.Contains(cut, name) {
			f.await(name)
		}
	}
	return f
}

// config is a Caddyfile of all nodes.
func (f *fleet) config() string {
	var brokers, handlers strings.Builder
	for _, name := range slices.Sorted(maps.Keys(f.ways)) {
		fmt.Fprintf(&brokers, "\tevstream %s {\n%s\t}\n", name, sharedBy(f.ways[name], ""))
		fmt.Fprintf(&handlers, "\tevstream /%s/* {\n\t\tbroker %[1]s\n\t\tjwt {\n\t\t\tkey %q\n\t\t}\n\t\theartbeat 1s\n\t\tallow anyone subscribe,publish,state **\n\t}\n", name, authtest.Secret)
	}
	return fmt.Sprintf("{\n\tadmin %s\n\tpersist_config off\n\tauto_https off\n%s}\nhttp://%s {\n%s}\n", f.admin, &brokers, f.address, &handlers)
}

// join runs one more node.
func (f *fleet) join(name, way string) {
	f.t.Helper()
	f.ways[name] = way
	if err := reload(f.t, f.config()); err != nil {
		f.t.Fatal(err)
	}
	f.await(name)
}

func (f *fleet) await(name string) {
	f.t.Helper()
	eventually(f.t, "node "+name+" to have read the log", func() bool {
		_, stale := f.hub(name).Broker().Stale()
		return f.hub(name).MayEnter(access.AnonymousCaller(), time.Now()) == nil && !stale
	})
}

func (f *fleet) hub(name string) *hub.Hub { return theHub(f.t, name) }

// at is where a channel lies at a node.
func (f *fleet) at(node, channel string) string {
	return "http://" + f.address + "/" + node + "/" + channel
}

// revocations is the admin endpoint's resource of a node.
func (f *fleet) revocations(node string) string {
	return "http://" + f.admin + "/evstream/_revocations?broker=" + node
}

// revoke revokes at a node, which must work.
func (f *fleet) revoke(node, what string) hub.Revoked {
	f.t.Helper()
	return revoke(f.t, f.revocations(node), what)
}

// refused holds a caller to be refused at nodes.
func (f *fleet) refused(who func(*http.Request), nodes ...string) {
	f.t.Helper()
	for _, node := range nodes {
		if s := connect(f.t, f.at(node, "x"), who); s.status != http.StatusUnauthorized {
			f.t.Errorf("a stream at %s: %d", node, s.status)
		}
		if status, body := post(f.t, f.at(node, "x"), "x", who); status != http.StatusUnauthorized {
			f.t.Errorf("publishing at %s: %d %s", node, status, body)
		}
	}
}

// known are those who are revoked, by what a node knows.
func (f *fleet) known(node string) string {
	f.t.Helper()
	_, body := send(f.t, "GET", f.revocations(node), "")
	var doc struct{ Revocations []hub.Revocation }
	if err := json.Unmarshal([]byte(body), &doc); err != nil {
		f.t.Fatal(err)
	}
	var names []string
	for _, r := range doc.Revocations {
		name := r.Name()
		if r.Untold {
			name += " untold"
		}
		names = append(names, name)
	}
	return strings.Join(names, ", ")
}

// sessionAt is the session of the one stream of a user at a hub.
func sessionAt(t testing.TB, h *hub.Hub, user string) string {
	t.Helper()
	for _, s := range h.Sessions() {
		if h.Standing(s).Caller.User == user {
			return s.Stream.ID()
		}
	}
	t.Fatalf("%q has no stream", user)
	return ""
}

func TestANodeThatDoesNotAnswer(t *testing.T) {
	server := redistest.Start(t)
	way := redistest.StartProxy(t, server.Addr())
	f := startFleet(t, map[string]string{"a": way.Addr(), "b": server.Addr()})
	alice := authtest.Bearer(t, gojwt.MapClaims{"jti": "a1"})
	atA := subscribe(t, f.at("a", "x"), alice)
	id := sessionAt(t, f.hub("a"), "alice")
	what := fmt.Sprintf(`{"session":%q}`, id)
	way.Freeze()
	status, body := post(t, f.revocations("b"), what)
	if status != 503 || !strings.Contains(body, `"outcome":"unknown"`) || !strings.Contains(body, "the node of the session does not answer") {
		t.Errorf("got %d %s", status, body)
	}
	status, body = send(t, "PUT", f.at("b", "v")+"?session="+id, "1", alice)
	if status != 503 || !strings.Contains(body, "so nothing was done") || strings.Contains(body, "outcome") {
		t.Errorf("binding a value: %d %s", status, body)
	}
	if _, body := send(t, "GET", f.at("b", "v"), "", header("Accept", "application/json")); !strings.Contains(body, "no-state") {
		t.Errorf("the value is %s", body)
	}
	// It hears of it when it can.
	way.Heal()
	atA.ended()
	eventually(t, "b to hear", func() bool { return f.known("b") == "~token:a1" })

	bob := authtest.Bearer(t, gojwt.MapClaims{"sub": "bob"})
	subscribe(t, f.at("a", "x"), bob)
	id = sessionAt(t, f.hub("a"), "bob")
	way.Cut()
	// Some calls are waiting when it is known that the node is gone.
	type outcome struct {
		err  error
		took time.Duration
	}
	outcomes := make(chan outcome, 1000)
	h := f.hub("b")
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	var calls sync.WaitGroup
	eventually(t, "the node to be gone", func() bool {
		select {
		case <-tick.C:
			calls.Go(func() {
				asked := time.Now()
				_, err := h.IsSame(t.Context(), id, &access.Caller{User: "bob"})
				outcomes <- outcome{err, time.Since(asked)}
			})
		default:
		}
		members, known := h.Broker().Members()
		return known && !slices.Contains(members, broker.NodeOf(id))
	})
	status, body = post(t, f.revocations("b"), fmt.Sprintf(`{"session":%q}`, id))
	if status != 404 || !strings.Contains(body, "no-session") {
		t.Errorf("a session of a node that is gone: %d %s", status, body)
	}
	calls.Wait()
	close(outcomes)
	waited := 0
	for o := range outcomes {
		switch gone := errors.Is(o.err, broker.ErrNoSession); {
		case gone && o.took >= callTimeout:
			waited++
		case !gone && problem.Of(o.err).Kind != problem.Unavailable:
			t.Errorf("after %s: %v", o.took, o.err)
		}
	}
	if waited == 0 {
		t.Error("no call that waited was told that the node is gone")
	}
}

func TestAValueIsBoundToAStreamOfWhateverNode(t *testing.T) {
	server := redistest.Start(t)
	f := startFleet(t, map[string]string{"a": server.Addr(), "b": server.Addr()})
	alice, bob := authtest.Bearer(t, nil), authtest.Bearer(t, gojwt.MapClaims{"sub": "bob"})
	watcher := subscribe(t, f.at("b", "v"))
	atA := subscribe(t, f.at("a", "x"), alice)
	id := sessionAt(t, f.hub("a"), "alice")
	bind := func(session string, who ...func(*http.Request)) (int, string) {
		return send(t, "PUT", f.at("b", "v")+"?session="+session, "1", who...)
	}
	if status, body := bind(id, alice); status != http.StatusCreated {
		t.Fatalf("got %d %s", status, body)
	}
	watcher.expect(`{"value":1}`)
	if status, body := bind(id, bob); status != http.StatusForbidden {
		t.Errorf("another caller: %d %s", status, body)
	}
	if status, body := bind(id); status != http.StatusUnauthorized {
		t.Errorf("nobody: %d %s", status, body)
	}
	of, _, _ := strings.Cut(id, ".")
	if status, body := bind(of+".none", alice); status != 404 || !strings.Contains(body, "no-session") {
		t.Errorf("an unknown session: %d %s", status, body)
	}
	atA.cancel()
	watcher.expect(`{"deleted":true}`)
	if status, body := bind(id, alice); status != 404 || !strings.Contains(body, "no-session") {
		t.Errorf("a session that has ended: %d %s", status, body)
	}
}

// A node that is killed says no goodbye: its lease has to end.
func TestAValueGoesWithTheNodeOfItsSession(t *testing.T) {
	server := redistest.Start(t)
	f := startFleet(t, map[string]string{"b": server.Addr(), "c": server.Addr()})
	address := freeAddress(t)
	p := startCaddy(t, func(admin string) string {
		return fmt.Sprintf("{\n\tadmin %s\n\tpersist_config off\n\tauto_https off\n\tevstream {\n%s\t}\n}\nhttp://%s {\n\tevstream /live/* {\n%s\n\t}\n}\n",
			admin, sharedBy(server.Addr(), ""), address, allowAnything)
	})
	var session string
	eventually(t, "a stream at the other process", func() bool {
		s := connect(t, "http://"+address+"/live/x")
		e, err := s.events.Next()
		var open struct{ Session string }
		if err != nil || e.Type != "evstream.open" || json.Unmarshal(e.Data, &open) != nil {
			s.cancel()
			return false
		}
		session = open.Session
		return true
	})
	watcher := subscribe(t, f.at("c", "v"))
	if status, body := send(t, "PUT", f.at("b", "v")+"?session="+session, "1"); status != http.StatusCreated {
		t.Fatalf("got %d %s", status, body)
	}
	watcher.expect(`{"value":1}`)
	if err := p.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	of, _, _ := strings.Cut(session, ".")
	lease, err := server.Client().ZScore(t.Context(), "{shared}:nodes", of).Result()
	if err != nil {
		t.Fatal(err)
	}
	watcher.expect(`{"deleted":true}`)
	if now, err := server.Client().Time(t.Context()).Result(); err != nil || now.UnixMilli() < int64(lease) {
		t.Errorf("it went at %d; the lease ends at %f; %v", now.UnixMilli(), lease, err)
	}
	if status, body := send(t, "PUT", f.at("b", "v")+"?session="+session, "1"); status != 404 || !strings.Contains(body, "no-session") {
		t.Errorf("binding another: %d %s", status, body)
	}
}
