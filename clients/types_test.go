package main

import (
	"context"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// snippet finds the JavaScript of a document.
var snippet = regexp.MustCompile("(?ms)^```(?:js|javascript)\n(.*?)^```$")

// typesOfLibraries are enough of React and Vue for the hooks, whose channels have types then.
const typesOfLibraries = `
declare module 'react' {
	export function useEffect(effect: () => void | (() => void), of: unknown[]): void;
	export function useState<T = any>(first?: T): [T | undefined, (next: any) => void];
}
declare module 'vue' {
	export function ref<T = any>(value?: T): { (value: any): void; value: T | undefined };
	export function toValue(value: any): string;
	export function watchEffect(effect: (onCleanup: (f: () => void) => void) => void): void;
}
`

// TestTheTypesFitTheSnippetsOfTheDocument has TypeScript check the snippets of
// docs/browser.md, strictly, with the types that hubs serve; and uses that must not pass.
func TestTheTypesFitTheSnippetsOfTheDocument(t *testing.T) {
	text, err := os.ReadFile("../docs/browser.md")
	if err != nil {
		t.Fatal(err)
	}
	found := snippet.FindAllStringSubmatch(string(text), -1)
	if len(found) != 3 {
		t.Fatalf("docs/browser.md has %d snippets of JavaScript, which are 3", len(found))
	}
	types, err := os.ReadFile("../browser/evstream.d.ts")
	if err != nil {
		t.Fatal(err)
	}
	check := func(t *testing.T, program string) (string, error) {
		t.Helper()
		dir := t.TempDir()
		for name, text := range map[string]string{
			"client.d.ts":    string(types),
			"libraries.d.ts": typesOfLibraries,
			"show.d.ts":      "declare function show(...what: unknown[]): void;\n",
			"program.ts":     program,
			"tsconfig.json": `{
				"compilerOptions": { "strict": true, "noEmit": true, "target": "es2022", "module": "esnext", "moduleResolution": "bundler",
					"lib": ["es2022", "dom"], "types": [], "paths": { "/live/_client.js": ["./client.d.ts"] } },
				"files": ["libraries.d.ts", "show.d.ts", "program.ts"]
			}`,
		} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		out, err := command(context.Background(), dir, made(t, "clients/node_modules/.bin/tsc"), "--project", ".").CombinedOutput()
		return string(out), err
	}
	// The hooks are JavaScript: their arguments get a type each, as a page in TypeScript
	// gives them.
	typed := strings.NewReplacer(
		"useLive(subscribe, ...of)", "useLive(subscribe: (tell: (what: any) => void) => () => void, ...of: unknown[])",
		"useLive(subscribe)", "useLive(subscribe: (told: { (value: any): void; value: any }) => () => void)",
		"= channel =>", "= (channel: string) =>", "(channel, keep = 50)", "(channel: string, keep = 50)",
		"(list = [])", "(list: ChannelEvent[] = [])",
		"import { connect }", "import { connect, type ChannelEvent }",
	)
	for i, s := range found {
		program := typed.Replace(s[1])
		if i == 0 {
			program += "export {};\n"
		}
		if out, err := check(t, program); err != nil {
			t.Errorf("snippet %d: %v\n%s\n%s", i+1, err, out, program)
		}
	}

	const begin = "import { connect } from '/live/_client.js';\nconst live = connect('/live', { token: async () => 'x', share: false, credentials: 'include' });\n"
	if out, err := check(t, begin+`
const leave: () => void = live.on('a', 'goal', ({ channel, event, data, id }) => show(channel.length, event.length, data.length, id.length));
live.value<{ home: number }>('a', (value, channel) => show(value?.home.toFixed(), channel.length));
live.presence('a', (members, count) => show(members.map(m => m.user + m.since + m.meta?.name), count.toFixed()));
live.addEventListener('gap', ({ detail }) => show(detail.reason === 'tabs', detail.oldest?.length));
live.addEventListener('error', ({ detail }) => show(detail.status?.toFixed(), detail.channel));
live.addEventListener('state', ({ detail }) => show(detail === 'ended', live.state === 'open'));
live.addEventListener('end', ({ detail }) => show(detail.reason?.length));
leave();
live.reopen();
live.close();
`); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	for _, wrong := range []string{
		"live.on('a');", "live.on(7, show);", "live.on('a', 'goal');", "live.state = 'open';", "live.on('a', e => e.name);",
		"live.value<number>('a', n => n.toFixed());", "live.addEventListener('gap', e => e.detail.status);",
		"connect('/live', { token: 7 });", "connect('/live', { shared: false });", "if (live.state === 'closed') live.close();",
	} {
		if out, err := check(t, begin+wrong+"\n"); err == nil || !strings.Contains(out, "program.ts(3,") {
			t.Errorf("%s: %v\n%s", wrong, err, out)
		}
	}
}
