package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// recipeSecret is that of the backend, in the hub of the recipes.
const recipeSecret = "a-secret-of-the-test"

// startRecipes runs the hub of docs/recipes.md, with some files beside it.
func startRecipes(t *testing.T, files ...string) (site string) {
	t.Helper()
	dir := t.TempDir()
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, filepath.Base(file)), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	site = free(t)
	runCaddy(t, fmt.Sprintf(`{
	admin off
	persist_config off
}
http://%s {
	evstream /live/* {
		bearer backend %s
		allow anyone subscribe match.*
		allow backend publish,state **
	}
	root %s
	file_server
}
`, site, recipeSecret, dir), site)
	return site
}

func TestPagesOfTheRecipesShowWhatIsPublished(t *testing.T) {
	site := startRecipes(t, "other/htmx.html", "other/turbo.html",
		made(t, "clients/node_modules/htmx.org/dist/htmx.min.js"),
		made(t, "clients/node_modules/htmx-ext-sse/dist/sse.min.js"),
		made(t, "clients/node_modules/@hotwired/turbo/dist/turbo.es2017-esm.js"))
	chromium := openChromium(t)
	for _, tt := range []struct{ page, query, data string }{
		{"htmx", "?event=score", "<b>%d:0</b>"},
		{"turbo", "", `<turbo-stream action="update" target="score"><template>%d:0</template></turbo-stream>`},
	} {
		t.Run(tt.page, func(t *testing.T) {
			d := newDevice(t, chromium, "http://"+site+"/"+tt.page+".html")
			goals := 0
			eventually(t, "the page to show the score", func() bool {
				goals++ // the stream begins when it does
				r, err := http.NewRequest(http.MethodPost, "http://"+site+"/live/match.7"+tt.query, strings.NewReader(fmt.Sprintf(tt.data, goals)))
				if err != nil {
					t.Fatal(err)
				}
				r.Header.Set("Authorization", "Bearer "+recipeSecret)
				resp, err := http.DefaultClient.Do(r)
				if err != nil || resp.Body.Close() != nil || resp.StatusCode != http.StatusOK {
					t.Fatal(err, resp)
				}
				shown := eval[string](t, d, "document.getElementById('score').textContent")
				return shown != "0:0" && strings.HasSuffix(shown, ":0")
			})
		})
	}
}

func TestProgramsOfTheRecipesPublish(t *testing.T) {
	site := startRecipes(t)
	run := func(t *testing.T, program, file, secret string) (string, error) {
		cmd := exec.CommandContext(t.Context(), program, file)
		cmd.Env = append(os.Environ(), "EVSTREAM_URL=http://"+site+"/live", "EVSTREAM_TOKEN="+secret)
		var out bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &out
		err := cmd.Run()
		return out.String(), err
	}
	for program, file := range map[string]string{"php": "other/publish.php", "ruby": "other/publish.rb"} {
		t.Run(program, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
			defer cancel()
			r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+site+"/live/match.7?raw=1", nil)
			if err != nil {
				t.Fatal(err)
			}
			resp, err := http.DefaultClient.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			if out, err := run(t, program, file, recipeSecret); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			var event string // the stream has nothing else
			for lines := bufio.NewScanner(resp.Body); !strings.Contains(event, "data:") && lines.Scan(); {
				if !strings.HasPrefix(lines.Text(), ":") && !strings.HasPrefix(lines.Text(), "id:") {
					event += lines.Text() + "\n"
				}
			}
			if got, want := strings.TrimSpace(event), "event: score\ndata: {\"home\":2}"; got != want {
				t.Errorf("the stream has %q, want %q", got, want)
			}
			if out, err := run(t, program, file, "another secret"); err == nil || !strings.Contains(out, "urn:evstream:problem:unauthorized") {
				t.Errorf("with another secret: %v: %s", err, out)
			}
		})
	}
}
