package evstream

import (
	"strings"
	"testing"
)

func TestASecondHandlerThatCouldNeverActIsAnError(t *testing.T) {
	block := func(matcher, more string) string {
		return "evstream " + matcher + " {\n" + more + "\nallow anyone subscribe **\n}\n"
	}
	live, inner := block("/live/*", ""), block("", "mount /live")
	for name, tt := range map[string]struct {
		site  string
		never bool
	}{
		"two blocks":                 {live + live, true},
		"in another case":            {live + block("/LIVE/*", ""), true},
		"in two routes":              {"route {\n" + live + "}\nroute {\n" + live + "}\n", true},
		"beside a route":             {live + "route {\n" + live + "}\n", true},
		"in a handle":                {live + "handle /live/* {\n" + inner + "}\n", true},
		"in a handle for everything": {live + "handle {\n" + inner + "}\n", true},
		"of a snippet":               {"import live\nimport live\n", true},
		"in one route":               {"route /live/* {\n" + inner + inner + "}\n", true},
		"with one matcher":           {"@m header X-A b\n" + block("@m", "mount /live") + block("@m", "mount /live"), true},
		"in two handle_paths":        {"handle_path /live/* {\n" + block("", "") + "}\nhandle_path /live/* {\n" + block("", "") + "}\n", true},
		"other mounts":               {live + block("/chat/*", ""), false},
		"a longer mount":             {live + block("/live/chat/*", ""), false},
		"with two matchers":          {"@m header X-A b\n@n header X-A c\n" + block("@m", "mount /live") + block("@n", "mount /live"), false},
		"first with a matcher":       {"@m header X-A b\nroute {\n" + block("@m", "mount /live") + live + "}\n", false},
		"two handle_paths":           {"handle_path /a/* {\n" + block("", "") + "}\nhandle_path /b/* {\n" + block("", "") + "}\n", false},
		"a part of the mount first":  {"handle /live/a/* {\n" + inner + "}\nhandle /live/* {\n" + inner + "}\n", false},
		"behind a rewrite":           {"route {\n" + live + "rewrite * /live{uri}\n" + live + "}\n", false},
		"both behind a rewrite":      {"route {\nrewrite * /live{uri}\n" + live + live + "}\n", true},
		"in a rewritten sibling":     {live + "handle /app/* {\nrewrite * /live/a\n" + inner + "}\n", false},
		"in an unwritten sibling":    {"handle /app/* {\nrewrite * /live/a\n" + inner + "}\nhandle {\n" + inner + "}\n", false},
		"siblings of one rewrite":    {"handle /app/* {\nrewrite * /live/a\nroute {\n" + inner + inner + "}\n}\n", true},
		"after uri in one route":     {"route {\n" + live + "uri strip_prefix /v1\n" + live + "}\n", false},
		"another site":               {live + "}\nhttp://other.test:PORT {\n" + live, false},
	} {
		t.Run(name, func(t *testing.T) {
			address := freeAddress(t)
			_, port, _ := strings.Cut(address, ":")
			load(t, options(""))
			config := options("") + "(live) {\n" + live + "}\nhttp://" + address + " {\n" + strings.ReplaceAll(tt.site, "PORT", port) + "}\n"
			for by, err := range map[string]error{"a validation": validate(t, config), "a reload": reload(t, config)} {
				if got := err != nil && strings.Contains(err.Error(), "would never act"); got != tt.never || err != nil && !got {
					t.Errorf("%s: never acts: %v, want %v: %v", by, got, tt.never, err)
				}
			}
		})
	}
}
