package redisadapter

import (
	"regexp"
	"testing"

	"github.com/evstream/caddy-evstream/internal/redistest"
)

var odd = regexp.MustCompile(`[^A-Za-z0-9._:/-]+`)

// logConfig is a log in that server, of the test's own.
func logConfig(s *redistest.Server, t testing.TB) Config {
	cfg := testConfig(s.Addr())
	cfg.Prefix = odd.ReplaceAllString(t.Name(), "-")
	cfg.Prefix = cfg.Prefix[max(0, len(cfg.Prefix)-128):]
	return cfg
}
