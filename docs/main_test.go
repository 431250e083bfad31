// Package docs tries what the documents show. It is apart from the root's tests so
// that it runs beside them: there is one Caddy in a process.
package docs

import (
	"fmt"
	"os"
	"testing"

	"github.com/caddyserver/caddy/v2"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
)

// TestMain: the test binary is also the Caddy whose commands are shown. Paths are
// those of the repository, as in the documents.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Getenv("EVSTREAM_TEST_CADDY") != "" {
		caddycmd.Main()
		return
	}
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// run runs the tests with what Caddy stores in a directory of their own.
func run(m *testing.M) (code int, err error) {
	if err := os.Chdir(".."); err != nil {
		return 0, err
	}
	dir, err := os.MkdirTemp("", "evstream-docs-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	for _, name := range []string{"XDG_DATA_HOME", "XDG_CONFIG_HOME"} {
		if err := os.Setenv(name, dir); err != nil {
			return 0, err
		}
	}
	caddy.DefaultStorage.Path = dir
	return m.Run(), nil
}
