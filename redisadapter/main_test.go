package redisadapter

import (
	"context"
	"flag"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/evstream/caddy-evstream/internal/leaktest"
)

// quiet discards the log of go-redis, which is about faults that the tests make.
type quiet struct{}

func (quiet) Printf(context.Context, string, ...any) {}

func TestMain(m *testing.M) {
	redis.SetLogger(quiet{})
	// Most tests wait most of the time. The command line comes after this.
	if err := flag.Set("test.parallel", "12"); err != nil {
		panic(err)
	}
	leaktest.VerifyTestMain(m)
}
