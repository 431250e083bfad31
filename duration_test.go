package evstream

import (
	"testing"

	"github.com/caddyserver/caddy/v2"

	"github.com/evstream/caddy-evstream/internal/duration"
)

// FuzzDuration: rooms below the root read durations as Caddy does.
func FuzzDuration(f *testing.F) {
	for _, s := range []string{"1d", "1.5d2h", "-1d", "1dd", "1h1d", "d", "", "1e3d", "+.5d", "1d-1h", "1µs", "9999999d"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, err := duration.Parse(s)
		want, wantErr := caddy.ParseDuration(s)
		if got != want || (err == nil) != (wantErr == nil) {
			t.Errorf("%q: got %s, %v; Caddy has %s, %v", s, got, err, want, wantErr)
		}
	})
}
