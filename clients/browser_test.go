package main

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// esbuild runs it where the clients' packages are.
func esbuild(t *testing.T, dir, stdin string, args ...string) []byte {
	t.Helper()
	program, err := filepath.Abs("../bin/clients/node_modules/.bin/esbuild")
	if err != nil {
		t.Fatal(err)
	}
	cmd := command(context.Background(), dir, program, args...)
	cmd.Stdin, cmd.Stderr = strings.NewReader(stdin), os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal("esbuild:", err)
	}
	return out
}

// TestTheServedClientIsMadeOfItsSource has esbuild make again what hubs serve.
func TestTheServedClientIsMadeOfItsSource(t *testing.T) {
	want, err := os.ReadFile("../browser/evstream.min.js")
	if err != nil {
		t.Fatal(err)
	}
	made := esbuild(t, "../browser", "", "evstream.js", "--minify", "--target=es2022", "--format=esm", "--mangle-props=^(seen|last|reads|wants|sid)$", "--log-level=warning")
	if !bytes.Equal(made, want) {
		t.Error("evstream.min.js is not what esbuild makes of evstream.js: run make client")
	}
}

// reactPage and vuePage show with the hooks of docs/browser.md a value and the events of a
// channel that a button changes.
const (
	reactPage = `
import { createElement as h, useState, StrictMode } from 'react';
import { createRoot } from 'react-dom/client';
import { useValue, useEvents } from './live-react.mjs';
function Page() {
	const [room, enter] = useState('room/1');
	const count = useValue('count'), events = useEvents(room, 2);
	return h('button', { onClick: () => enter('room/2') }, String(count) + ' ' + room + ' ' + events.map(e => e.data).join());
}
createRoot(document.body.firstChild).render(h(StrictMode, null, h(Page)));`
	vuePage = `
import { createApp, h, ref } from 'vue/dist/vue.runtime.esm-bundler.js';
import { useValue, useEvents } from './live-vue.mjs';
createApp({ setup() {
	const room = ref('room/1'), count = useValue('count'), events = useEvents(room, 2);
	return () => h('button', { onClick: () => { room.value = 'room/2'; } }, String(count.value) + ' ' + room.value + ' ' + (events.value ?? []).map(e => e.data).join());
} }).mount(document.body.firstChild);`
)

func TestTheHooksOfTheDocumentsWork(t *testing.T) {
	chromium := openChromium(t)
	for name, page := range map[string]string{"react": reactPage, "vue": vuePage} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			modules, err := filepath.Abs("../bin/clients/node_modules")
			if err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink(modules, filepath.Join(dir, "node_modules")); err != nil {
				t.Fatal(err)
			}
			hooks, err := os.ReadFile("other/live-" + name + ".mjs")
			if err != nil {
				t.Fatal(err)
			}
			for file, text := range map[string]string{"live-" + name + ".mjs": string(hooks), "index.html": "<!doctype html><div></div><script type=module src=/page.js></script>"} {
				if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			script := esbuild(t, dir, page, "--bundle", "--format=esm", "--external:/live/*", "--log-level=warning", "--define:process.env.NODE_ENV='development'", "--preserve-symlinks")
			if err := os.WriteFile(filepath.Join(dir, "page.js"), script, 0o600); err != nil {
				t.Fatal(err)
			}
			site := free(t)
			runCaddy(t, fmt.Sprintf("{\n\tadmin off\n\tpersist_config off\n}\nhttp://%s {\n\tevstream /live/* {\n\t\tallow anyone subscribe,publish,state **\n\t}\n\troot %s\n\tfile_server\n}\n", site, dir), site)
			d := newDevice(t, chromium, "http://"+site+"/")
			send := func(method, channel, body string) {
				t.Helper()
				r, err := http.NewRequest(method, "http://"+site+"/live/"+channel, strings.NewReader(body))
				if err != nil {
					t.Fatal(err)
				}
				resp, err := http.DefaultClient.Do(r)
				if err != nil || resp.Body.Close() != nil || resp.StatusCode/100 != 2 {
					t.Fatal(err, resp)
				}
			}
			shows := func(want string) {
				t.Helper()
				eventually(t, "the page to show "+want, func() bool {
					return eval[string](t, d, "document.querySelector('button')?.textContent ?? ''") == want
				})
			}
			shows("undefined room/1 ")
			send("PUT", "count", "42")
			shows("42 room/1 ")
			for _, data := range []string{"a", "b", "c"} {
				send("POST", "room/1", data)
			}
			shows("42 room/1 b,c")
			eval[bool](t, d, "document.querySelector('button').click() ?? true")
			shows("42 room/2 ")
			eventually(t, "an event of the other room", func() bool {
				send("POST", "room/2", "d")
				return strings.HasPrefix(eval[string](t, d, "document.querySelector('button').textContent"), "42 room/2 d")
			})
		})
	}
}
