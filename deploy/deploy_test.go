// Package deploy tests what a release is made of, and what runs it.
package deploy

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// read returns the text of a file of the repository.
func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", path))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestAllNameTheSameVersions: whatever names Caddy, the module or a tool, in each place the
// same version. go.mod decides.
func TestAllNameTheSameVersions(t *testing.T) {
	one := func(path, pattern string) string {
		t.Helper()
		found := regexp.MustCompile(pattern).FindAllStringSubmatch(read(t, path), -1)
		if len(found) != 1 {
			t.Fatalf("%s: %d times %s, expected once", path, len(found), pattern)
		}
		return found[0][1]
	}
	caddy := one("go.mod", `github\.com/caddyserver/caddy/v2 v(\S+)`)
	module := one("go.mod", `(?m)^module (\S+)$`)
	golang := one("go.mod", `(?m)^go (\d+\.\d+)`)
	for _, c := range []struct{ path, pattern, want string }{
		{"Makefile", `(?m)^CADDY_VERSION \?= v(\S+)$`, caddy},
		{"deploy/docker/Dockerfile", `(?m)^FROM caddy:(\S+)$`, caddy},
		{"deploy/helm/evstream/Chart.yaml", `(?m)^appVersion: "(\S+)"$`, caddy},
		{".github/workflows/ci.yml", `xcaddy build v(\S+)`, caddy},
		{"Makefile", `--with (\S+?)@`, module},
		{"scripts/module.sh", `(?m)^module=(\S+)$`, module},
		{"deploy/helm/evstream/values.yaml", `(?m)^  repository: ghcr\.io/(\S+)$`, strings.TrimPrefix(module, "github.com/")},
		{"deploy/docker/Dockerfile", `FROM \S+ golang:(\d+\.\d+)\.\d+ AS`, golang},
		{"deploy/docker/Dockerfile", `-tags=(\S+)`, strings.ReplaceAll(one(".goreleaser.yaml", `tags: \[(.*)\]`), ", ", ",")},
		{"deploy/docker/Dockerfile", `golang:(\S+)`, one("examples/cluster/compose.yaml", `golang:(\S+)`)},
	} {
		if got := one(c.path, c.pattern); got != c.want {
			t.Errorf("%s names %s, expected %s", c.path, got, c.want)
		}
	}
	if strings.Contains(read(t, "go.mod"), "\nreplace ") {
		t.Error("go.mod replaces a module: what xcaddy builds would have another one than a release")
	}
}

// TestAReleaseSaysNothingOfWhereItWasMade: what makes the same commit the same bytes.
func TestAReleaseSaysNothingOfWhereItWasMade(t *testing.T) {
	text := read(t, ".goreleaser.yaml")
	for _, part := range []string{
		"-trimpath", "-buildvcs=false", "-mod=readonly", "CGO_ENABLED=0",
		`mod_timestamp: "{{ .CommitTimestamp }}"`, `mtime: "{{ .CommitDate }}"`, "algorithm: sha256",
	} {
		if !strings.Contains(text, part) {
			t.Errorf("no %q in .goreleaser.yaml", part)
		}
	}
	for _, m := range regexp.MustCompile(`\{ src: (\S+), (.*) \}`).FindAllStringSubmatch(text, -1) {
		read(t, m[1])
		if m[2] != "info: *info" {
			t.Errorf("%s has the time at which it was packed", m[1])
		}
	}
}

// TestTheImageIsForARealSite: exact versions, no root, volumes, and a check of health.
func TestTheImageIsForARealSite(t *testing.T) {
	text := read(t, "deploy/docker/Dockerfile")
	exact := regexp.MustCompile(`^[a-z/.]+:\d+\.\d+\.\d+$`)
	stages := regexp.MustCompile(`(?m)^FROM (?:--platform=\S+ )?(\S+)`).FindAllStringSubmatch(text, -1)
	for _, stage := range stages {
		if !exact.MatchString(stage[1]) {
			t.Errorf("the image %s has no exact version", stage[1])
		}
	}
	last := text[strings.LastIndex(text, "\nFROM "):]
	for _, part := range []string{"\nUSER 65532:65532\n", "\nVOLUME [\"/data\", \"/config\"]\n", "\nHEALTHCHECK ", "/evstream/_health/ready"} {
		if !strings.Contains(last, part) {
			t.Errorf("no %q in the last stage", part)
		}
	}
	if len(stages) != 2 || strings.Contains(last, "\nRUN ") {
		t.Error("the last stage runs something: that would need the other machine of an image for two")
	}

	text = read(t, "deploy/docker/compose.yaml")
	for _, part := range []string{
		"${EVSTREAM_TOKEN:?", `user: "65532:65532"`, "read_only: true", "no-new-privileges:true", "cap_drop: [ALL]",
		"nofile: 1048576", "stop_grace_period: 30s", "data:/data",
	} {
		if !strings.Contains(text, part) {
			t.Errorf("no %q in the compose file", part)
		}
	}
}

// TestEveryValueOfTheChartIsUsed, and each that is used is described.
func TestEveryValueOfTheChartIsUsed(t *testing.T) {
	files, err := filepath.Glob("helm/evstream/templates/*")
	if err != nil || len(files) < 5 {
		t.Fatalf("the templates are %q, %v", files, err)
	}
	var used []string
	for _, file := range files {
		text := read(t, filepath.Join("deploy", file))
		for _, m := range regexp.MustCompile(`\.Values((?:\.\w+)+)`).FindAllStringSubmatch(text, -1) {
			used = append(used, m[1][1:])
		}
	}
	slices.Sort(used)
	used = slices.Compact(used)

	var described []string // as the templates name them
	group, block, comment := "", false, false
	for line := range strings.Lines(read(t, "deploy/helm/evstream/values.yaml")) {
		line = strings.TrimRight(line, "\n")
		indent := len(line) - len(strings.TrimLeft(line, " "))
		key, value, ok := strings.Cut(strings.TrimSpace(line), ":")
		switch {
		case strings.HasPrefix(line, "#"):
			comment, block = true, false
		case line == "":
			comment, block = false, false
		case block, !ok:
		case indent == 0:
			if !comment {
				t.Errorf("the value %s is not described", key)
			}
			group, block = "", strings.TrimSpace(value) == "|"
			if value == "" && !slices.Contains(used, key) {
				group = key
				continue
			}
			described = append(described, key)
			if value == "" {
				block = true // a template takes it as a whole
			}
		case group != "":
			described = append(described, group+"."+key)
		}
	}
	slices.Sort(described)
	if !slices.Equal(used, described) {
		t.Errorf("the templates use\n%q, and values.yaml has\n%q", used, described)
	}
}

// TestTheUnitLimitsWhatItRuns: the limits that the documents promise.
func TestTheUnitLimitsWhatItRuns(t *testing.T) {
	text := read(t, "deploy/systemd/evstream.service")
	for _, line := range []string{
		"Type=notify", "User=evstream", "LimitNOFILE=1048576", "TimeoutStopSec=30", "NoNewPrivileges=true",
		"ProtectSystem=strict", "StateDirectory=evstream", "CapabilityBoundingSet=CAP_NET_BIND_SERVICE",
	} {
		if !strings.Contains(text, "\n"+line+"\n") {
			t.Errorf("no line %s", line)
		}
	}
	run := regexp.MustCompile(`(?m)^Exec(?:Start|Reload)=(\S+) (?:run|reload) (--config \S+ --adapter \S+)`).FindAllStringSubmatch(text, -1)
	if len(run) != 2 || run[0][1] != run[1][1] || run[0][2] != run[1][2] {
		t.Errorf("it starts and reloads %q: expected the same program and configuration", run)
	}
}
