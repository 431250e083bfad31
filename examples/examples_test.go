// Package examples holds what a newcomer runs first; its tests keep it running.
package examples

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	_ "github.com/caddyserver/caddy/v2/modules/standard"

	_ "github.com/evstream/caddy-evstream"
	_ "github.com/evstream/caddy-evstream/examples/scoreboard"
)

func TestTheCaddyfileAdaptsAndProvisions(t *testing.T) {
	text, err := os.ReadFile("Caddyfile")
	if err != nil {
		t.Fatal(err)
	}
	config, warnings, err := caddyconfig.GetAdapter("caddyfile").Adapt(text, map[string]any{"filename": "Caddyfile"})
	if err != nil {
		t.Fatal(err)
	}
	for _, warning := range warnings {
		t.Errorf("line %d: %s", warning.Line, warning.Message)
	}
	for _, part := range []string{`"scoreboard":{}`, `"handler":"evstream"`, `"root":"examples/www"`} {
		if !strings.Contains(string(config), part) {
			t.Errorf("no %s in %s", part, config)
		}
	}
	var parsed caddy.Config
	if err := caddy.StrictUnmarshalJSON(config, &parsed); err != nil {
		t.Fatal(err)
	}
	if err := caddy.Validate(&parsed); err != nil {
		t.Error(err)
	}
}

func TestTheCaddyfileIsFormatted(t *testing.T) {
	text, err := os.ReadFile("Caddyfile")
	if err != nil {
		t.Fatal(err)
	}
	if formatted := caddyfile.Format(text); !bytes.Equal(formatted, text) {
		t.Errorf("caddy fmt would make of it:\n%s", formatted)
	}
}

// The page is read by people who have no network, and shows what strangers
// publish.
func TestThePageLoadsNothingFromElsewhereAndTakesNoMarkup(t *testing.T) {
	elsewhere := regexp.MustCompile(`(https?:)?//[a-z0-9-]+(\.[a-z0-9-]+)+`)
	markup := regexp.MustCompile(`innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b`)
	reference := regexp.MustCompile(`(?:href|src)="((?:css|js)/[^"]+)"|from "\./([^"]+)"`)
	err := filepath.WalkDir("www", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, found := range elsewhere.FindAllString(string(text), -1) {
			// The name of SVG, and links that a reader may follow.
			if found != "http://www.w3.org" && (found != "https://github.com" || !strings.Contains(string(text), `<a href="`+found) && !strings.Contains(string(text), `<a class="docs" href="`+found)) {
				t.Errorf("%s refers to %s", path, found)
			}
		}
		if found := markup.FindString(string(text)); found != "" {
			t.Errorf("%s uses %s", path, found)
		}
		for _, match := range reference.FindAllStringSubmatch(string(text), -1) {
			if _, err := os.Stat(filepath.Join(filepath.Dir(path), match[1]+match[2])); err != nil {
				t.Errorf("%s: %v", path, err)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
