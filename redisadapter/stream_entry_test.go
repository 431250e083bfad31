package redisadapter

import (
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/evstream/caddy-evstream/broker"
)

// oneEntry is what XRANGE answers with one entry.
const oneEntry = "*1\r\n*2\r\n$3\r\n5-1\r\n*4\r\n$1\r\nm\r\n$8\r\nw 4-0 v\n\r\n$1\r\ne\r\n$4\r\n\r\n$9\r\n"

func TestPagesAreTakenApart(t *testing.T) {
	t.Parallel()
	r := reply{b: oneEntry}
	got, err := r.entries(nil)
	want := point{broker.ID{Ms: 5, N: 1}, digestWord("w")}
	before := point{broker.ID{Ms: 4}, digestWord("v\n")}
	if err != nil || len(got) != 1 || got[0].point != want || got[0].before != before || got[0].body != "\r\n$9" {
		t.Errorf("%+v, %v", got, err)
	}
	if none, err := (&reply{b: "*-1\r\n"}).entries(nil); len(none) != 0 || err != nil {
		t.Errorf("of nothing: %v, %v", none, err)
	}
	_, err = (&reply{b: "-MOVED 1 host:1\r\n"}).entries(nil)
	var refused redis.Error
	if !errors.As(err, &refused) || refused.Error() != "MOVED 1 host:1" {
		t.Errorf("of an error: %v", err)
	}
	for name, text := range map[string]string{
		"another's entry":  "*1\r\n*2\r\n$3\r\n5-1\r\n*2\r\n$1\r\na\r\n$1\r\nb\r\n",
		"no link":          "*1\r\n*2\r\n$3\r\n5-1\r\n*2\r\n$1\r\ne\r\n$1\r\nb\r\n",
		"a damaged link":   strings.Replace(oneEntry, "w 4-0 v", "w 4-a v", 1),
		"a damaged id":     strings.Replace(oneEntry, "5-1", "5+1", 1),
		"a truncated page": oneEntry[:len(oneEntry)-4],
	} {
		if got, err := (&reply{b: text}).entries(nil); err == nil {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestIDsAndWordsAreRead(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]broker.ID{
		"0-0": {}, "18446744073709551615-18446744073709551615": {Ms: 1<<64 - 1, N: 1<<64 - 1}, "12-3": {Ms: 12, N: 3},
	} {
		if id, ok := parseID(text); !ok || id != want {
			t.Errorf("%s: %s, %v", text, id, ok)
		}
	}
	for _, text := range []string{"", "-", "1-", "-1", "18446744073709551616-0", "1-1-1", "a-1", "1 1"} {
		if id, ok := parseID(text); ok {
			t.Errorf("%q is %s", text, id)
		}
	}
	if p, ok := parsePoint("0-0 -"); !ok || p != (point{}) {
		t.Errorf("of nothing before: %v, %v", p, ok)
	}
	for name, want := range map[string]broker.Policy{
		live:                   {},
		"1000-3600000-1048576": {Events: 1000, Age: time.Hour, Bytes: 1 << 20},
		"5-0-7":                {Events: 5, Bytes: 7},
	} {
		if p, ok := policyOf(name); !ok || p != want {
			t.Errorf("%s: %+v, %v", name, p, ok)
		}
	}
	for _, name := range []string{"", "1-2", "1-2-3-4", "-1-2-3", "1-a-3", "01-2-3", "0-1-2"} {
		if p, ok := policyOf(name); ok {
			t.Errorf("%q is %+v", name, p)
		}
	}
}

// FuzzPage: whatever a server sends is an error or taken apart, wherever the
// network has cut it.
func FuzzPage(f *testing.F) {
	f.Add([]byte(oneEntry), 3)
	f.Add([]byte("*2\r\n*0\r\n$-1\r\n"), 1)
	f.Add([]byte("-ERR\r\n+OK\r\n:1\r\n"), 4)
	f.Fuzz(func(t *testing.T, b []byte, cut int) {
		_, _ = (&reply{b: string(b)}).entries(nil)
		whole := scan{need: 1}
		done, err := whole.scan(b)
		parts := scan{need: 1}
		if cut = max(0, min(cut, len(b))); cut > 0 {
			if early, err := parts.scan(b[:cut]); early || err != nil {
				if err == nil && (!done || parts.at != whole.at) {
					t.Fatalf("it ends at %d, and then at %d", parts.at, whole.at)
				}
				return
			}
		}
		again, err2 := parts.scan(b)
		if again != done || (err == nil) != (err2 == nil) || done && (parts.at != whole.at || parts.at > len(b)) {
			t.Fatalf("in parts: %v %v at %d, at once: %v %v at %d", again, err2, parts.at, done, err, whole.at)
		}
	})
}

func TestRepliesAreReceivedWholeAndOneByOne(t *testing.T) {
	t.Parallel()
	here, there := net.Pipe()
	w := &link{patience: 5 * time.Second, raw: here, dialed: []net.Conn{here}}
	big := fmt.Sprintf("$%d\r\n%s\r\n", 1<<20, strings.Repeat("x", 1<<20))
	replies := []string{oneEntry, "*-1\r\n", big, ":5\r\n", oneEntry + "", "-ERR no\r\n"}
	sent := make(chan error, 1)
	go func() {
		_, err := io.Copy(there, &byParts{b: []byte(strings.Join(replies, "")), part: 7919})
		sent <- errors.Join(err, there.Close())
	}()
	for i, want := range replies {
		if got, err := w.receive(0); err != nil || got != want {
			t.Fatalf("reply %d: %d bytes, want %d, %v", i, len(got), len(want), err)
		}
	}
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
	if _, err := w.receive(0); !errors.Is(err, io.EOF) {
		t.Errorf("after the end: %v", err)
	}
	why := errors.New("why")
	w.cut(why)
	if _, err := w.receive(0); !errors.Is(err, why) {
		t.Errorf("after a cut: %v", err)
	}
	w.word("x")
	if err := w.send(); !errors.Is(err, why) {
		t.Errorf("after a cut: %v", err)
	}
}

// byParts reads a part at a time.
type byParts struct {
	b    []byte
	part int
}

// Read implements io.Reader.
func (r *byParts) Read(p []byte) (int, error) {
	if len(r.b) == 0 {
		return 0, io.EOF
	}
	n := copy(p, r.b[:min(r.part, len(r.b))])
	r.b = r.b[n:]
	return n, nil
}

func TestPastKnowsWhatWasAppliedLast(t *testing.T) {
	t.Parallel()
	p := newRing(100)
	id := func(n int) broker.ID { return broker.ID{Ms: uint64(n)} }
	at := func(n int) point { return point{id(n), uint64(n)} }
	if p.has(at(1)) || p.has(point{}) {
		t.Error("it knows what was never applied")
	}
	for n := 2; n <= 500; n += 2 {
		p.add(at(n))
	}
	for _, c := range []struct {
		point point
		want  bool
	}{
		{at(500), true},
		{at(302), true},
		{at(502), false},
		{at(499), false},
		{point{id(500), 1}, false},
		{at(300), true},
		{at(299), true},
		{point{id(300), 1}, true},
		{point{}, false}, // forgotten
	} {
		if got := p.has(c.point); got != c.want {
			t.Errorf("%v: %v", c.point, got)
		}
	}
	if got := p.below(id(401)); got != at(400) {
		t.Errorf("below 401 is %v", got)
	}
	if got := p.below(id(302)); got != (point{}) {
		t.Errorf("below the oldest is %v", got)
	}
	p.cut(id(401))
	if p.has(at(402)) || !p.has(at(400)) || !p.has(at(302)) || !p.has(at(100)) {
		t.Error("a cut removes what is above, and nothing else")
	}
	for n := 402; n <= 600; n += 2 {
		p.add(point{id(n), 7})
	}
	if !p.has(point{id(402), 7}) || p.has(at(404)) || !p.has(at(380)) {
		t.Error("after a cut others are remembered")
	}
	p.cut(id(200))
	if p.has(at(202)) || !p.has(at(200)) || p.has(at(402)) {
		t.Error("a cut below what is remembered removes all")
	}
}
