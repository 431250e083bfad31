package evstream

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/internal/redistest"
	"github.com/evstream/caddy-evstream/problem"
)

// pair is two nodes of one hub, in this process: brokers "a" and "b", whose
// channels lie beneath /a and /b. Each has a log of its own in the same Redis.
type pair struct {
	t       testing.TB
	address string
	a, b    string // where channels lie
}

// sharedBy is the adapter of nodes that share the Redis at an address.
func sharedBy(address, more string) string {
	return "\t\tadapter redis redis://" + address + " {\n\t\t\tprefix shared\n" + more + "\n\t\t}\n"
}

// pairOf is a Caddyfile of two nodes with these adapters. More is for both
// handlers.
func pairOf(address, adapterA, adapterB, more string) string {
	return options("\tevstream a {\n"+adapterA+"\t}\n\tevstream b {\n"+adapterB+"\t}") +
		fmt.Sprintf("http://%s {\n\tevstream /a/* {\n\t\tbroker a\n%[2]s\n%[3]s\n\t}\n\tevstream /b/* {\n\t\tbroker b\n%[2]s\n%[3]s\n\t}\n}\n",
			address, allowAnything, more)
}

// newPair is a pair that does not run yet.
func newPair(t testing.TB) *pair {
	t.Helper()
	address := freeAddress(t)
	return &pair{t: t, address: address, a: "http://" + address + "/a/", b: "http://" + address + "/b/"}
}

// startPair runs two nodes that reach Redis at these addresses, and waits
// until they have read the log. More is for both handlers.
func startPair(t testing.TB, redisA, redisB string, more ...string) *pair {
	t.Helper()
	n := newPair(t)
	load(t, pairOf(n.address, sharedBy(redisA, ""), sharedBy(redisB, ""), strings.Join(more, "\n")))
	n.awaitLoaded()
	return n
}

func (n *pair) awaitLoaded() {
	n.t.Helper()
	for _, name := range []string{"a", "b"} {
		eventually(n.t, "node "+name+" to have read the log", func() bool {
			b := theHub(n.t, name).Broker()
			_, stale := b.Stale()
			return b.Loaded() == nil && !stale
		})
	}
}

// ask makes a request and returns the answer, its body as text.
func (n *pair) ask(method, url, body string, change ...func(*http.Request)) (*http.Response, string) {
	n.t.Helper()
	var answer *http.Response
	var text string
	change = append([]func(*http.Request){header("Accept", "application/json")}, change...)
	eventually(n.t, "an answer", func() (ok bool) { // a reload may close a connection before its request is read
		var err error
		answer, text, err = answerOf(n.t, method, url, body, change...)
		return err == nil
	})
	return answer, text
}

// publish publishes at a node, which must work, and returns the event's id.
func (n *pair) publish(url, data string) string {
	n.t.Helper()
	answer, body := n.ask("POST", url, data)
	var doc struct{ ID string }
	if err := json.Unmarshal([]byte(body), &doc); err != nil || answer.StatusCode != http.StatusOK {
		n.t.Fatalf("publishing: %d %s", answer.StatusCode, body)
	}
	return doc.ID
}

// channelInfo is what a channel's document says.
type channelInfo struct {
	Subscribers, Nodes, Stale int
	Partial                   bool
	LastEventID               string `json:"last_event_id"`
}

// info is a channel's document, of nothing where there is no such channel.
func (n *pair) info(url string) (doc channelInfo) {
	n.t.Helper()
	answer, body := n.ask("GET", url+"?info", "")
	if answer.StatusCode == http.StatusNotFound {
		return doc
	}
	if err := json.Unmarshal([]byte(body), &doc); err != nil || answer.StatusCode != http.StatusOK {
		n.t.Fatalf("info: %d %s", answer.StatusCode, body)
	}
	return doc
}

func TestNodesThatShareARedisAreOneHub(t *testing.T) {
	server := redistest.Start(t)
	n := startPair(t, server.Addr(), server.Addr())
	atA, atB := subscribe(t, n.a+"x"), subscribe(t, n.b+"x")
	var ids [2]string
	for i := range 20 {
		from := []string{n.a, n.b}[i%2]
		id := n.publish(from+"x", fmt.Sprint(i))
		for k, s := range []*caddyStream{atA, atB} {
			s.expect(fmt.Sprint(i))
			if ids[k] = s.events.LastEventID(); ids[k] != id {
				t.Errorf("event %d has the id %s, and was published as %s", i, ids[k], id)
			}
		}
	}
	// What one node has answered, the other one knows when it is asked to.
	for i := range 50 {
		from, to := n.a, n.b
		if i%2 == 1 {
			from, to = to, from
		}
		if answer, body := n.ask("PUT", from+"v", fmt.Sprint(i)); answer.StatusCode/100 != 2 {
			t.Fatalf("%d %s", answer.StatusCode, body)
		}
		answer, body := n.ask("GET", to+"v", "", header("Cache-Control", "max-age=0, No-Cache"))
		if body != fmt.Sprint(i)+"\n" || answer.Header.Get("Evstream-Stale") != "" {
			t.Fatalf("wrote %d, read %q at the other node", i, body)
		}
	}
	if _, body := n.ask("PATCH", n.a+"v?incr=1", ""); !strings.Contains(body, `"value":50`) {
		t.Errorf("an increment makes %s", body)
	}
	if _, body := n.ask("PATCH", n.b+"v?incr=1", ""); !strings.Contains(body, `"value":51`) {
		t.Errorf("an increment makes %s", body)
	}
	// The same key and body at another node is the same request.
	key := header("Idempotency-Key", "k")
	_, first := n.ask("POST", n.a+"x", "once", key)
	answer, second := n.ask("POST", n.b+"x", "once", key)
	if first != second || answer.Header.Get("Idempotency-Replayed") != "true" {
		t.Errorf("published as %s, and again as %s", first, second)
	}
	atA.expect("once")
	atB.expect("once")
}

func TestASessionIsNamedAfterItsNode(t *testing.T) {
	server := redistest.Start(t)
	n := startPair(t, server.Addr(), server.Addr())
	session := func(url string) (*caddyStream, string) {
		t.Helper()
		s := connect(t, url)
		e, err := s.events.Next()
		if err != nil || e.Type != "evstream.open" {
			t.Fatalf("the stream opens with %+v, %v", e, err)
		}
		var open struct{ Session string }
		if err := json.Unmarshal(e.Data, &open); err != nil {
			t.Fatal(err)
		}
		return s, open.Session
	}
	atA, nameA := session(n.a + "x")
	atB, nameB := session(n.b + "x")
	for node, name := range map[string]string{"a": nameA, "b": nameB} {
		b := theHub(t, node).Broker()
		if of, random, _ := strings.Cut(name, "."); of == "" || of != b.Node() || of != broker.NodeOf(name) || len(random) != 22 || b.IsForeign(name) {
			t.Errorf("a session of node %s is named %s", b.Node(), name)
		}
	}
	// A value that is bound at both nodes goes with the last.
	for value, name := range map[string]string{"1": nameA, "2": nameB} {
		if answer, body := n.ask("PUT", n.a+"y?session="+name, value); answer.StatusCode/100 != 2 {
			t.Fatalf("binding a value: %d %s", answer.StatusCode, body)
		}
	}
	defer func() {
		bound := func() string { return theHub(t, "a").Broker().State("y").Session }
		atB.cancel()
		eventually(t, "the value to be bound to one session less", func() bool { return bound() == nameA })
		atA.cancel()
		eventually(t, "the value to go with the last", func() bool { return theHub(t, "b").Broker().State("y").Value == nil })
	}()
	// Both but the session at the other node get it.
	n.publish(n.a+"x?except="+nameB, "1")
	n.publish(n.b+"x?except="+nameA, "2")
	n.publish(n.b+"x", "3")
	atA.expect("1")
	atA.expect("3")
	atB.expect("2")
	atB.expect("3")
}

func TestAClientThatIsAheadOfANodeIsToldOfNoGap(t *testing.T) {
	server := redistest.Start(t)
	way := redistest.StartProxy(t, server.Addr())
	n := startPair(t, server.Addr(), way.Addr())
	b := theHub(t, "b").Broker()
	way.Delay(200 * time.Millisecond)
	for i := range 3 {
		id := n.publish(n.a+"x", fmt.Sprint(i))
		if head := b.Head().String(); head == id {
			t.Fatal("the node is not behind")
		}
		s := connect(t, n.b+"x", header("Last-Event-ID", id))
		if e, err := s.events.Next(); err != nil || e.Type != "evstream.open" || s.events.LastEventID() != id {
			t.Errorf("the stream opens with %s %s, %v, as id %s, want %s", e.Type, e.Data, err, s.events.LastEventID(), id)
		}
		n.publish(n.a+"x", "on")
		s.expect("on")
		s.cancel()
	}
	id := n.publish(n.a+"x", "polled")
	answer, body := n.ask("GET", n.b+"x?poll=1&timeout=0&last_event_id="+id, "")
	if want := `{"events":[],"last_event_id":"` + id + `"}` + "\n"; body != want || answer.Header.Get("Evstream-Stale") != "" {
		t.Errorf("a poll is answered %s", body)
	}

	// A node that cannot know yet asks to come back.
	way.Freeze()
	id = n.publish(n.a+"x", "unseen")
	s := connect(t, n.b+"x", header("Last-Event-ID", id))
	if s.status != http.StatusOK {
		t.Errorf("status %d", s.status)
	}
	s.ended()
	answer, body = n.ask("GET", n.b+"x?poll=1&last_event_id="+id, "")
	n.wantUnavailable(answer, body, "the log is out of reach")
	// Who does not need to know is served.
	if e, err := connect(t, n.b+"x").events.Next(); err != nil || e.Type != "evstream.open" {
		t.Errorf("a new client gets %+v, %v", e, err)
	}
	way.Heal()
	eventually(t, "the client to go on", func() bool {
		s := connect(t, n.b+"x", header("Last-Event-ID", id))
		defer s.cancel()
		e, err := s.events.Next()
		return err == nil && e.Type == "evstream.open" && s.events.LastEventID() == id
	})

	// A cursor that no clock can have given is made up, and costs no wait.
	far := fmt.Sprintf("%d-0", time.Now().Add(time.Hour).UnixMilli())
	s = connect(t, n.b+"x", header("Last-Event-ID", far))
	for _, want := range []string{"evstream.open", "evstream.gap"} {
		if e, err := s.events.Next(); err != nil || e.Type != want || want == "evstream.gap" && !strings.Contains(string(e.Data), `"diverged"`) {
			t.Errorf("got %s %s, %v, want %s", e.Type, e.Data, err, want)
		}
	}
}

// wantUnavailable holds an answer to be one of a log that is not there.
func (n *pair) wantUnavailable(answer *http.Response, body, detail string) {
	n.t.Helper()
	var doc struct{ Type, Detail string }
	if err := json.Unmarshal([]byte(body), &doc); err != nil || answer.StatusCode != 503 ||
		doc.Type != problem.URN+"unavailable" || doc.Detail != detail || answer.Header.Get("Retry-After") == "" {
		n.t.Errorf("answered %d %s, Retry-After %q; want 503 unavailable, %s", answer.StatusCode, body, answer.Header.Get("Retry-After"), detail)
	}
}

func TestInfoAndListsCountTheSubscribersOfAllNodes(t *testing.T) {
	server := redistest.Start(t)
	way := redistest.StartProxy(t, server.Addr())
	n := startPair(t, server.Addr(), way.Addr())
	for range 3 {
		subscribe(t, n.a+"x")
	}
	subscribe(t, n.b+"x")
	leaving := subscribe(t, n.b+"only/there")
	subscribe(t, n.b+"*") // is not of a channel
	count := func(url string, want, members int) {
		t.Helper()
		eventually(t, fmt.Sprintf("%d subscribers at %s, %d nodes", want, url, members), func() bool {
			doc := n.info(url)
			return doc.Subscribers == want && doc.Nodes == members && !doc.Partial && doc.Stale == 0
		})
	}
	count(n.a+"x", 4, 2)
	count(n.b+"x", 4, 2)
	count(n.a+"only/there", 1, 2) // nothing of it is at this node
	if doc := n.info(n.a + "x"); doc.LastEventID == "" {
		t.Error("there is no cursor")
	}
	_, body := n.ask("GET", "http://"+n.address+"/a/_channels", "")
	var page struct {
		Channels []struct {
			Channel     string
			Subscribers int
		}
		Nodes   int
		Partial bool
	}
	if err := json.Unmarshal([]byte(body), &page); err != nil || len(page.Channels) != 1 || page.Channels[0].Subscribers != 4 || page.Nodes != 2 || page.Partial {
		t.Errorf("listed %s", body)
	}
	leaving.cancel()
	count(n.a+"only/there", 0, 0)

	// A node that cannot ask says what it knows.
	way.Cut()
	eventually(t, "the node to know that it is cut", func() bool { return n.info(n.b+"x").Stale > 0 })
	if doc := n.info(n.b + "x"); !doc.Partial || doc.Subscribers != 1 {
		t.Errorf("it says %+v", doc)
	}
	eventually(t, "the node to not know of others any more", func() bool { return n.info(n.b+"x").Nodes == 0 })
	// Who is cut is not counted among the others for long.
	count(n.a+"x", 3, 1)
}
