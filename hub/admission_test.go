package hub

import (
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/evstream/caddy-evstream/access"
)

func TestAUserMayHaveSoManyStreamsWhateverTheAddress(t *testing.T) {
	h := testHub(t, Config{MaxPerUser: 2})
	addOf := func(user, address string) (*Session, error) {
		s := testSession(t, h, address)
		return s, addFor(h, s, &access.Caller{User: user})
	}
	// refused counts a refusal, as who turns the subscriber away does.
	refused := func(what string, err error) {
		t.Helper()
		if !errors.Is(err, ErrTooManyOfUser) {
			t.Errorf("%s: %v", what, err)
		}
		h.Refused(err)
	}
	first, err := addOf("alice", "192.0.2.1")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := addOf("alice", "127.0.0.1"); err != nil {
		t.Fatal(err)
	}
	_, err = addOf("alice", "192.0.2.3")
	refused("the third stream", err)
	refused("a poll", h.AddPoll("192.0.2.3", "alice"))
	for range 5 {
		if _, err := addOf("", "192.0.2.4"); err != nil {
			t.Errorf("an anonymous caller: %v", err)
		}
	}
	if _, err := addOf("bob", "192.0.2.1"); err != nil {
		t.Errorf("another user: %v", err)
	}
	was := h.Standing(first) // as a reload may find out
	if !h.SetStanding(first, was.Owner, Standing{Caller: &access.Caller{User: "carol"}, Owner: was.Owner}) {
		t.Fatal("its standing does not change")
	}
	h.Remove(first)
	if err := h.AddPoll("192.0.2.3", "alice"); err != nil {
		t.Errorf("after one has left: %v", err)
	}
	h.RemovePoll("192.0.2.3", "alice")
	for _, s := range h.Sessions() {
		h.Remove(s)
	}
	if len(h.users) != 0 || len(h.addresses) != 0 {
		t.Errorf("left are %v and %v", h.users, h.addresses)
	}
	if n := h.Stats().Refusals["max_connections_per_user"]; n != 2 {
		t.Errorf("%d were refused, want 2", n)
	}
}

// Whoever has one address of an IPv6 network has 2^64.
func TestANetworkOfIPv6IsOneAddress(t *testing.T) {
	h := testHub(t, Config{MaxPerAddress: 2})
	for i, address := range []string{"2001:db8::1", "2001:db8::ffff:1"} {
		if err := add(h, testSession(t, h, address)); err != nil {
			t.Fatalf("stream %d: %v", i, err)
		}
	}
	if err := add(h, testSession(t, h, "2001:db8:0:0:1234::")); !errors.Is(err, ErrTooManyFromAddress) {
		t.Errorf("the same network: %v", err)
	}
	if err := add(h, testSession(t, h, "2001:db8:0:1::1")); err != nil {
		t.Errorf("another network: %v", err)
	}
}

func TestAnAddressMayConnectSoOftenAndThisHostAsItLikes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := testHub(t, Config{ConnectRate: Rate{PerSecond: 1, Burst: 3}})
		for i := range 3 {
			if err := h.MayConnect("192.0.2.1"); err != nil {
				t.Fatalf("%d: %v", i, err)
			}
		}
		if err := h.MayConnect("::ffff:192.0.2.1"); !errors.Is(err, ErrConnectRate) {
			t.Errorf("got %v", err)
		}
		if err := h.MayConnect("192.0.2.2"); err != nil {
			t.Errorf("another address: %v", err)
		}
		time.Sleep(time.Second)
		if err := h.MayConnect("192.0.2.1"); err != nil {
			t.Errorf("a second later: %v", err)
		}
		for range 10 {
			if err := h.MayConnect("127.0.0.1"); err != nil {
				t.Fatalf("this host: %v", err)
			}
		}
	})
}

func TestAPublisherIsACallerWithAnIdentityOrElseAnAddress(t *testing.T) {
	for _, tt := range []struct {
		name   string
		who    *access.Caller
		client string
		want   string
	}{
		{"a user", &access.Caller{User: "alice"}, "192.0.2.1", "caller " + (&access.Caller{User: "alice"}).Identity()},
		{"anonymous", access.AnonymousCaller(), "192.0.2.1", "address 192.0.2.1"},
		{"of a network of IPv6", access.AnonymousCaller(), "2001:db8::1", "address 2001:db8::"},
		{"the admin endpoint", &access.Caller{Admin: true}, "192.0.2.1", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := Publisher(tt.who, tt.client); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestALoopbackAddressIsOneOnlyOfThisHost(t *testing.T) {
	for _, tt := range []struct {
		client, connection string
		forwarded          []string
		want               string
	}{
		{"198.51.100.7", "10.0.0.1", []string{"198.51.100.7, 203.0.113.9"}, "198.51.100.7"},
		{"127.0.0.1", "127.0.0.1", nil, "127.0.0.1"},
		{"::1", "::1", []string{"127.0.0.1", "nonsense, ::1, ,unknown"}, "::1"},
		{"127.0.0.1", "127.0.0.1", []string{"127.0.0.1, 203.0.113.9"}, "203.0.113.9"},
		{"127.0.0.1", "127.0.0.1", []string{"198.51.100.7", "203.0.113.9, 127.0.0.1"}, "203.0.113.9"},
		{"127.0.0.1", "10.0.0.1", []string{"127.0.0.1"}, "10.0.0.1"},
		{"::ffff:127.0.0.1", "10.0.0.1", nil, "10.0.0.1"},
		{"127.0.0.1", "10.0.0.1", []string{"127.0.0.1, 203.0.113.9:4711"}, "203.0.113.9"},
		{"127.0.0.1", "@", []string{"127.0.0.1, [2001:db8::1]:4711"}, "2001:db8::1"},
		{"127.0.0.1", "::1", []string{"127.0.0.1,fe80::1%eth0"}, "fe80::1"},
		{"", "@", nil, ""},
	} {
		if got := ClientAddress(tt.client, tt.connection, slices.Values(tt.forwarded)); got != tt.want {
			t.Errorf("%s over %s, forwarded %q: got %s, want %s", tt.client, tt.connection, tt.forwarded, got, tt.want)
		}
	}
}
