package safehttp

import (
	"errors"
	"strings"
	"testing"
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
				if (err == nil) != g.want || err != nil && !errors.Is(err, ErrAddress) {
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
