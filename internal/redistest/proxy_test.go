package redistest

import (
	"bytes"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// behindProxy returns a server, a proxy in front of it, and a client of the proxy.
func behindProxy(t *testing.T) (*Server, *Proxy, *redis.Client) {
	t.Helper()
	s := Start(t)
	p := StartProxy(t, s.Addr())
	client := clientAt(t, s, p.Addr())
	set(t, client, "a", "0")
	wantValue(t, s.Client(), "a", "0")
	return s, p, client
}

func wantConns(t *testing.T, p *Proxy, want int) {
	t.Helper()
	if got := p.Conns(); got != want {
		t.Errorf("%d connections, not %d", got, want)
	}
}

func TestProxyForwardsWhateverIsSent(t *testing.T) {
	t.Parallel()
	s := Start(t)
	p := StartProxy(t, s.Addr())
	client := clientAt(t, s, p.Addr())
	big := strings.Repeat("0123456789abcdef", 1<<18) // 4 MiB
	set(t, client, "big", big)
	if got, err := client.Get(t.Context(), "big").Result(); err != nil || got != big {
		t.Errorf("%d bytes came back, %v", len(got), err)
	}
	client.Close()
	eventually(t, "the proxy to close", func() bool { return p.Conns() == 0 })
}

func TestCutProxyRefusesAndHealedOneIsAtTheSameAddress(t *testing.T) {
	t.Parallel()
	s, p, client := behindProxy(t)
	p.Cut()
	wantConns(t, p, 0)
	wantRefused(t, p.Addr())
	if err := client.Set(t.Context(), "a", "1", 0).Err(); err == nil {
		t.Error("a write passes")
	}
	wantValue(t, s.Client(), "a", "0")
	p.Cut()
	p.Heal()
	set(t, clientAt(t, s, p.Addr()), "a", "2")
	wantValue(t, s.Client(), "a", "2")
}

func TestFrozenProxyHoldsEverythingBackUntilItIsHealed(t *testing.T) {
	t.Parallel()
	s, p, client := behindProxy(t)
	p.Freeze()
	p.Freeze()
	wantTimeout(t, client.WithTimeout(brief).Set(t.Context(), "a", "1", 0).Err())
	wantTimeout(t, impatient(t, s, p.Addr()).Ping(t.Context()).Err())
	wantValue(t, s.Client(), "a", "0")
	p.Heal()
	eventually(t, "what was held back to arrive", func() bool { return s.Client().Get(t.Context(), "a").Val() == "1" })
	set(t, client, "a", "2")
}

func TestFrozenProxyDoesNotTellThatASideHasClosed(t *testing.T) {
	t.Parallel()
	s, p, client := behindProxy(t)
	before := clients(t, s)
	p.Freeze()
	client.Close()
	conn, err := net.Dial("tcp", p.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	quiet := func() {
		t.Helper()
		conn.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
		_, err := conn.Read(make([]byte, 1))
		wantTimeout(t, err)
	}
	quiet()
	if got := clients(t, s); got != before {
		t.Errorf("the server had %d connections and has %d", before, got)
	}
	s.Kill()
	quiet()
	p.Heal()
	conn.SetReadDeadline(time.Now().Add(patience))
	if _, err = conn.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("got %v", err)
	}
}

func clients(t *testing.T, s *Server) int {
	t.Helper()
	list, err := s.Client().ClientList(t.Context()).Result()
	if err != nil {
		t.Fatal(err)
	}
	return strings.Count(list, "\n")
}

func TestDelayedProxyTakesItsTimeInEachDirection(t *testing.T) {
	t.Parallel()
	s, p, _ := behindProxy(t)
	client := clientAt(t, s, p.Addr())
	set(t, client, "a", "1")
	p.Delay(100 * time.Millisecond)
	begun := time.Now()
	wantValue(t, client, "a", "1")
	if took := time.Since(begun); took < 200*time.Millisecond {
		t.Errorf("it took %s", took)
	}
	// Many requests under way at once take no longer.
	pipe := client.Pipeline()
	for range 1000 {
		pipe.Incr(t.Context(), "n")
	}
	begun = time.Now()
	if _, err := pipe.Exec(t.Context()); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(begun); took > patience {
		t.Errorf("1000 requests took %s", took)
	}
	p.Heal()
	wantValue(t, client, "n", "1000")
}

func TestDroppedReplyIsOfARequestThatWasObeyed(t *testing.T) {
	t.Parallel()
	s, p, client := behindProxy(t)
	p.DropReplies()
	if err := client.Set(t.Context(), "a", "1", 0).Err(); !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed) {
		t.Errorf("got %v", err)
	}
	wantValue(t, s.Client(), "a", "1")
	if err := impatient(t, s, p.Addr()).Ping(t.Context()).Err(); err == nil {
		t.Error("a new connection gets a reply")
	}
	p.Heal()
	set(t, clientAt(t, s, p.Addr()), "a", "2")
}

func TestThrottledProxyForwardsNoMoreThanItMay(t *testing.T) {
	t.Parallel()
	s, p, _ := behindProxy(t)
	client := clientAt(t, s, p.Addr())
	set(t, client, "a", string(bytes.Repeat([]byte("x"), 100_000)))
	p.Throttle(200_000)
	begun := time.Now()
	if err := client.Get(t.Context(), "a").Err(); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(begun); took < 450*time.Millisecond {
		t.Errorf("100 KB at 200 KB/s took %s", took)
	}
	p.Throttle(0)
	wantValue(t, client, "none", "")
}

func TestRetargetedProxyLeadsElsewhere(t *testing.T) {
	t.Parallel()
	_, p, client := behindProxy(t)
	other := Start(t)
	set(t, other.Client(), "a", "of another")
	p.Retarget(other.Addr())
	wantConns(t, p, 0)
	// The client has a connection that was closed.
	if err := client.Get(t.Context(), "a").Err(); err == nil {
		wantValue(t, client, "a", "of another")
	}
	wantValue(t, clientAt(t, other, p.Addr()), "a", "of another")
}

func TestProxyOfNobodyCloses(t *testing.T) {
	t.Parallel()
	p := StartProxy(t, address(freePort(t)))
	conn, err := net.Dial("tcp", p.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetReadDeadline(time.Now().Add(patience))
	if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("got %v", err)
	}
}

func TestProxyEndsWithItsTestWhateverItDoes(t *testing.T) {
	t.Parallel()
	s := Start(t)
	for name, fault := range map[string]func(*Proxy){
		"nothing":  func(*Proxy) {},
		"cut":      (*Proxy).Cut,
		"frozen":   (*Proxy).Freeze,
		"delayed":  func(p *Proxy) { p.Delay(time.Hour) },
		"throttle": func(p *Proxy) { p.Throttle(1) },
		"dropping": (*Proxy).DropReplies,
	} {
		var p *Proxy
		t.Run(name, func(t *testing.T) {
			p = StartProxy(t, s.Addr())
			client := clientAt(t, s, p.Addr())
			set(t, client, "a", "1")
			fault(p)
			// One request is under way, and another one has to connect.
			client.WithTimeout(brief).Get(t.Context(), "a").Err()
			impatient(t, s, p.Addr()).Ping(t.Context()).Err()
		})
		wantRefused(t, p.Addr())
		wantConns(t, p, 0)
	}
}
