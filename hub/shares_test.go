package hub

import (
	"testing"

	"github.com/evstream/caddy-evstream/access"
)

func TestEachCallerHasAShareAndTheOperatorHasAll(t *testing.T) {
	for _, tt := range []struct {
		who    access.Caller
		client string
		want   string
	}{
		{access.Caller{Admin: true}, "192.0.2.1", ""},
		{access.Caller{Name: "backend"}, "192.0.2.1", ""},
		{access.Caller{User: "ada"}, "192.0.2.1", "caller user:ada"},
		{access.Caller{TokenID: "t1"}, "192.0.2.1", "caller token:t1"},
		{access.Caller{}, "192.0.2.1", "address 192.0.2.1"},
		{access.Caller{}, "::ffff:192.0.2.1", "address 192.0.2.1"},
		{access.Caller{}, "2001:db8::1:2:3:4", "address 2001:db8::"},
		{access.Caller{}, "127.0.0.1", ""},
		{access.Caller{User: "ada"}, "127.0.0.1", "caller user:ada"},
		{access.Caller{}, "@", ""},
	} {
		if got := ShareOf(&tt.who, tt.client); got != tt.want {
			t.Errorf("%+v at %s has the share %q, want %q", tt.who, tt.client, got, tt.want)
		}
	}
}
