package docs

import (
	"os"
	"slices"
	"strings"
	"testing"
)

// Commands of the pages about deploying are not run: they need a Docker, a systemd, a
// cluster. Each is one that was looked at, and names files and targets that are there.
func TestTheDeployPageIsTrue(t *testing.T)  { commandsOf(t, "docs/deploy.md") }
func TestTheUpgradePageIsTrue(t *testing.T) { commandsOf(t, "UPGRADE.md") }

func commandsOf(t *testing.T, page string) {
	t.Helper()
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	makefile, err := os.ReadFile("Makefile")
	if err != nil {
		t.Fatal(err)
	}
	commands, open := 0, false
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if lang, mark := strings.CutPrefix(line, "```"); mark {
			if open = !open; open && lang != "sh" {
				t.Errorf("%s: a fence of %q: the tests of this page know sh alone", page, lang)
			}
			continue
		}
		if !open {
			continue
		}
		commands++
		words := strings.Fields(line)
		if strings.Contains(words[0], "EVSTREAM_TOKEN=") { // it is set for the command
			words = words[slices.Index(words, "docker"):]
		}
		switch words[0] {
		case "./caddy", "go", "sudo", "echo", "docker", "kubectl", "helm":
		case "make":
			if !strings.Contains(string(makefile), "\n"+words[1]+":") {
				t.Errorf("%s: the Makefile has no target %s", page, words[1])
			}
		default:
			t.Errorf("%s: %q is a command that the tests of this page do not know", page, words[0])
		}
		for _, word := range words {
			if !strings.HasPrefix(word, "deploy/") && !strings.HasPrefix(word, "examples/") {
				continue
			}
			if _, err := os.Stat(word); err != nil {
				t.Errorf("%s: %v", page, err)
			}
		}
	}
	if commands == 0 {
		t.Errorf("%s shows no command", page)
	}
}

// TestTheCaddyfileOfTheImageProvisions, with the secret that it asks for.
func TestTheCaddyfileOfTheImageProvisions(t *testing.T) {
	t.Setenv("EVSTREAM_TOKEN", token)
	text, err := os.ReadFile("deploy/docker/Caddyfile")
	if err != nil {
		t.Fatal(err)
	}
	provision(t, fence{file: "deploy/docker/Caddyfile", line: 1, lang: "caddyfile"}, string(text))
}
