package evstream

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddytest"
)

// Each file holds a Caddyfile, a line of hyphens, and the JSON it adapts to or
// a part of the error. What adapts also provisions.
func TestCaddyfilesAdaptAsTheirGoldenFilesSay(t *testing.T) {
	files, err := filepath.Glob("testdata/adapt/*.caddyfiletest")
	if err != nil || len(files) == 0 {
		t.Fatalf("no golden files: %v", err)
	}
	for _, name := range files {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".caddyfiletest"), func(t *testing.T) {
			data, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			input, want, ok := strings.Cut(string(data), "----------\n")
			if !ok {
				t.Fatal("no line of hyphens")
			}
			want = strings.TrimSpace(want)
			if strings.HasPrefix(want, "{") {
				if !caddytest.CompareAdapt(t, name, input, "caddyfile", want) {
					t.Error("adapts to something else")
				}
				t.Setenv("EVSTREAM_TOKEN", "secret")
				t.Setenv("EVSTREAM_HOOK_SECRET", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
				t.Setenv("GRIP_KEY", "a-key-of-the-tests")
				t.Setenv("EVSTREAM_JWT_KEY", "a secret of no less than 32 bytes")
				if err := validate(t, input); err != nil {
					t.Errorf("does not provision: %v", err)
				}
				return
			}
			_, _, err = caddyconfig.GetAdapter("caddyfile").Adapt([]byte(input), nil)
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("got the error  %v\nwant part of it %s", err, want)
			}
		})
	}
}
