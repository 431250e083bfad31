package examples

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// TestTheComposeFileIsForARealSite: images with exact versions, no service that runs
// as root, and no Redis without a password or with a port of its own.
func TestTheComposeFileIsForARealSite(t *testing.T) {
	b, err := os.ReadFile("cluster/compose.yaml")
	if err != nil {
		t.Fatal(err)
	}
	text := string(b)
	images := regexp.MustCompile(`(?m)(?:image:|FROM) (\S+)`).FindAllStringSubmatch(text, -1)
	exact := regexp.MustCompile(`^[a-z/.]+:\d+\.\d+\.\d+$`)
	for _, image := range images {
		if name := image[1]; name != "scratch" && !exact.MatchString(name) {
			t.Errorf("the image %s has no exact version", name)
		}
	}
	if len(images) != 3 {
		t.Errorf("%d images, expected 3", len(images))
	}
	for _, part := range []string{
		"${REDIS_PASSWORD:?", "requirepass $$REDIS_PASSWORD", "redis://:${REDIS_PASSWORD}@redis:6379",
		"user: redis", "USER 65532:65532", "read_only: true", "internal: true",
	} {
		if !strings.Contains(text, part) {
			t.Errorf("no %q in the compose file", part)
		}
	}
	if n := strings.Count(text, "ports:"); n != 1 {
		t.Errorf("%d services publish a port: expected only the front", n)
	}
}
