package redisadapter

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/broker/codec"
	"github.com/evstream/caddy-evstream/internal/redistest"
	"github.com/evstream/caddy-evstream/redisadapter/internal/entry"
	"github.com/evstream/caddy-evstream/sse"
)

// testConfig is a log in that server.
func testConfig(addr string) Config {
	cfg := DefaultConfig()
	cfg.Addresses = []string{addr}
	cfg.Prefix = "evstream:test"
	return cfg
}

func openLog(t testing.TB, cfg Config) *Log {
	t.Helper()
	log, err := Open(cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = log.Close() })
	return log
}

func event(channel, data string) broker.Op {
	return broker.Op{Kind: broker.KindEvent, Channel: channel, Event: sse.Event{Type: "t", Data: []byte(data)}}
}

func kept(op broker.Op) broker.Op {
	op.History = broker.Policy{Events: 1000, Age: time.Hour, Bytes: 16 << 20}
	op.Rules = 7
	return op
}

const keptStream = "1000-3600000-16777216"

func keyed(op broker.Op, key string) broker.Op {
	op.Key = broker.Key{Identity: "me", Key: key}
	return op
}

func set(channel, value string, condition ...broker.Condition) broker.Op {
	op := broker.Op{Kind: broker.KindState, Channel: channel, State: &broker.StateOp{}}
	if value != "" {
		op.State.Value = []byte(value)
	}
	if len(condition) > 0 {
		op.State.If = condition[0]
	}
	return op
}

func appendAll(t testing.TB, log *Log, ops ...broker.Op) []broker.Result {
	t.Helper()
	results, err := log.Append(context.Background(), ops)
	if err != nil {
		t.Fatal(err)
	}
	return results
}

// mark is an entry as meta and its successor name it.
type testMark struct {
	id    broker.ID
	nonce string
}

func parseTestMark(t testing.TB, s string) testMark {
	t.Helper()
	id, nonce, _ := strings.Cut(s, " ")
	m := testMark{nonce: nonce}
	var ok bool
	if m.id, ok = broker.ParseID(id); !ok || nonce == "" {
		t.Fatalf("%q is no entry", s)
	}
	return m
}

// stored is an entry as a stream has it.
type stored struct {
	broker.Entry
	nonce  string
	before testMark
}

func (e *stored) mark() testMark { return testMark{e.ID, e.nonce} }

// none is the predecessor of the first entry of a stream.
var none = testMark{nonce: "-"}

// entries reads a stream, and checks that each entry names the one before it.
func entries(t testing.TB, s *redistest.Server, name string) []stored {
	t.Helper()
	k := newKeys("evstream:test")
	messages, err := s.Client().XRange(context.Background(), k.stream(name), "-", "+").Result()
	if err != nil {
		t.Fatal(err)
	}
	var all []stored
	for i, m := range messages {
		id, ok := broker.ParseID(m.ID)
		link, _ := m.Values["m"].(string)
		nonce, before, _ := strings.Cut(link, " ")
		text, _ := m.Values["e"].(string)
		if !ok || nonce == "" || len(m.Values) != 2 {
			t.Fatalf("entry %v", m)
		}
		e := stored{codec.Decode(id, text), nonce, parseTestMark(t, before)}
		if i > 0 && e.before != all[i-1].mark() {
			t.Fatalf("%s came after %v, not %v", id, all[i-1].mark(), e.before)
		}
		all = append(all, e)
	}
	return all
}

func meta(t testing.TB, s *redistest.Server) map[string]string {
	t.Helper()
	m, err := s.Client().HGetAll(context.Background(), newKeys("evstream:test").meta).Result()
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestEventsLieInTheStreamOfTheirPolicy(t *testing.T) {
	s := redistest.Start(t)
	log := openLog(t, testConfig(s.Addr()))
	r := appendAll(t, log, event("a", "1"), kept(event("b", "2")), kept(event("c", "3")))
	lives, keeps := entries(t, s, entry.Live), entries(t, s, keptStream)
	if len(lives) != 2 || len(keeps) != 2 {
		t.Fatalf("live has %+v, the other %+v", lives, keeps)
	}
	if e := lives[0]; e.ID != r[0].ID || e.Kind != broker.KindEvent || e.Channel != "a" || string(e.Event.Data) != "1" || e.before != none {
		t.Errorf("the first is %+v", e)
	}
	if e := lives[1]; e.Kind != codec.KindStream || e.Channel != keptStream || !e.ID.After(r[0].ID) || !r[1].ID.After(e.ID) {
		t.Errorf("the new stream is told by %+v, and its first entry is %s", e, r[1].ID)
	}
	if e := keeps[1]; e.ID != r[2].ID || e.Channel != "c" || string(e.Event.Data) != "3" || e.Event.Type != "t" {
		t.Errorf("the last is %+v", e)
	}
	m := meta(t, s)
	if want := keeps[1].mark(); parseTestMark(t, m["last"]) != want || m["s:"+keptStream] != m["last"] {
		t.Errorf("meta is %v, and the last entry %v", m, want)
	}
	if m["format"] != "1" || len(m["log"]) != 32 || strings.Trim(m["log"], "0123456789abcdef") != "" || m["rules"] != "7" || m["mixed"] != "" {
		t.Errorf("meta is %v", m)
	}
}

func TestKeyGivesTheFirstAnswerBack(t *testing.T) {
	s := redistest.Start(t)
	log := openLog(t, testConfig(s.Addr()))
	first := appendAll(t, log, keyed(event("a", "x"), "k"))
	again := appendAll(t, log, keyed(event("a", "x"), "k"), keyed(event("a", "y"), "l"), keyed(event("a", "y"), "l"))
	if again[0].ID != first[0].ID || !again[0].Repeated || again[2].ID != again[1].ID || !again[2].Repeated {
		t.Errorf("first %+v, then %+v", first, again)
	}
	if r := appendAll(t, log, keyed(event("a", "y"), "k")); r[0].Err != broker.ErrKeyReused {
		t.Errorf("another operation is %+v", r)
	}
	if n := len(entries(t, s, entry.Live)); n != 2 {
		t.Errorf("%d entries", n)
	}
}

func TestStateIsDecidedInRedis(t *testing.T) {
	s := redistest.Start(t)
	log := openLog(t, testConfig(s.Addr()))
	r := appendAll(t, log, set("a", `{"x":1}`), set("a", `{"x":1.0}`), set("a", "2", broker.Condition{Kind: broker.IfAbsent}), set("b", ""))
	if !r[0].Created || !r[1].Unchanged || r[1].ID != r[0].ID {
		t.Errorf("results %+v", r)
	}
	if r[2].Err != broker.ErrStateMismatch || string(r[2].State.Value) != `{"x":1}` || r[2].State.Version != r[0].ID {
		t.Errorf("refused with %+v %+v", r[2], r[2].State)
	}
	if r[3].Err != broker.ErrStateMismatch || r[3].State.Value != nil {
		t.Errorf("removed: %+v", r[3])
	}
	if m := meta(t, s); m["bytes"] != "8" {
		t.Errorf("meta is %v", m)
	}
	if r := appendAll(t, log, set("a", "")); r[0].Err != nil {
		t.Errorf("removed: %+v", r)
	}
	if m := meta(t, s); m["bytes"] != "0" {
		t.Errorf("meta is %v", m)
	}
	if n := len(entries(t, s, entry.Live)); n != 2 {
		t.Errorf("%d entries", n)
	}
}

func TestPurgeIsInEveryStreamWithOneID(t *testing.T) {
	s := redistest.Start(t)
	log := openLog(t, testConfig(s.Addr()))
	other := event("c", "3")
	other.History = broker.Policy{Events: 5, Bytes: 1 << 20}
	appendAll(t, log, kept(event("b", "2")), other)
	for range 2 {
		r := appendAll(t, log, broker.Op{Kind: broker.KindPurge, Channel: "b"})
		for _, name := range []string{entry.Live, keptStream, "5-0-1048576"} {
			all := entries(t, s, name)
			if e := all[len(all)-1]; e.ID != r[0].ID || e.Kind != broker.KindPurge || e.Channel != "b" {
				t.Errorf("%s ends with %+v, the purge is %s", name, e, r[0].ID)
			}
		}
	}
}
