package redistest

import (
	"flag"
	"testing"

	"github.com/evstream/caddy-evstream/internal/leaktest"
)

func TestMain(m *testing.M) {
	// Most tests wait most of the time. The command line comes after this.
	if err := flag.Set("test.parallel", "8"); err != nil {
		panic(err)
	}
	leaktest.VerifyTestMain(m)
}
