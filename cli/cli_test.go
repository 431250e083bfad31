package cli

import (
	"bytes"
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"github.com/evstream/caddy-evstream/access"
	"github.com/evstream/caddy-evstream/auth"
	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/client"
	"github.com/evstream/caddy-evstream/httpapi"
	"github.com/evstream/caddy-evstream/hub"
	"github.com/evstream/caddy-evstream/presence"
)

const (
	backend = "backend-secret"
	jwtKey  = "a secret of at least 32 bytes, for tests"
)

// startHub serves a hub at /live, and names it in the environment.
func startHub(t *testing.T) *httptest.Server {
	t.Helper()
	quiet := slog.New(slog.DiscardHandler)
	there, err := presence.NewRules([]presence.Rule{{Pattern: "chat/**", Policy: &presence.Policy{}}})
	if err != nil {
		t.Fatal(err)
	}
	h, err := hub.Open(broker.NewMemory(), hub.Config{Presence: there, Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	who := &auth.Config{JWT: &auth.JWT{Keys: []auth.Key{{Text: jwtKey}}}, Bearers: map[string]string{"backend": backend}}
	policy, err := who.Policy([]access.Rule{
		{Who: "user", Do: []string{access.Subscribe, access.Presence}, Channels: []string{"chat/**"}},
		{Who: "backend", Do: []string{access.Everything}, Channels: []string{"**"}},
		{Who: access.Anyone, Do: []string{access.Subscribe}, Channels: []string{"public/**"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	a, err := auth.Open(who, auth.Deps{Revocations: h, TicketStore: h, Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	handler, err := httpapi.New(h, httpapi.Config{
		Mount: "/live", Access: policy, Auth: a, Logger: quiet,
		Streams: httpapi.Streams{RetryMin: time.Millisecond, RetryMax: time.Millisecond},
	})
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle("/live/", handler)
	mux.HandleFunc("/page/", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>a page")) })
	server := httptest.NewServer(mux)
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
		a.Close()
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	})
	t.Setenv("EVSTREAM_URL", server.URL+"/live")
	t.Setenv("EVSTREAM_TOKEN", backend)
	return server
}

// root is the command that they are of.
func root() *cobra.Command {
	cmd := &cobra.Command{Use: "evstream", SilenceUsage: true, SilenceErrors: true}
	cmd.AddCommand(Commands()...)
	return cmd
}

// printed is what a command that runs has printed.
type printed struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (p *printed) Write(text []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.b.Write(text)
}

func (p *printed) String() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.b.String()
}

// begin begins a command, which ends with the test at the latest.
func begin(t *testing.T, in string, args ...string) (out, notes *printed, done <-chan error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	cmd := root()
	out, notes = new(printed), new(printed)
	cmd.SetOut(out)
	cmd.SetErr(notes)
	cmd.SetIn(strings.NewReader(in))
	cmd.SetArgs(append([]string{}, args...)) // nil would be those of the tests
	ended := make(chan error, 1)
	var running sync.WaitGroup
	running.Go(func() { ended <- cmd.ExecuteContext(ctx) })
	t.Cleanup(func() {
		cancel()
		running.Wait()
	})
	return out, notes, ended
}

// run runs a command.
func run(t *testing.T, in string, args ...string) (out, notes string, err error) {
	t.Helper()
	o, n, done := begin(t, in, args...)
	err = <-done
	return o.String(), n.String(), err
}

// must runs a command that succeeds.
func must(t *testing.T, in string, args ...string) string {
	t.Helper()
	out, _, err := run(t, in, args...)
	if err != nil {
		t.Fatalf("%q: %v", args, err)
	}
	return out
}

// until waits for what a command that runs prints.
func until(t *testing.T, out *printed, want string) {
	t.Helper()
	looks, patience := time.NewTicker(time.Millisecond), time.After(20*time.Second)
	defer looks.Stop()
	for !strings.Contains(out.String(), want) {
		select {
		case <-looks.C:
		case <-patience:
			t.Fatalf("it does not print %q, but\n%s", want, out)
		}
	}
}

// alike replaces what differs from run to run.
func alike(text string) string {
	text = regexp.MustCompile(`\d{13}-\d+`).ReplaceAllString(text, "ID")
	text = regexp.MustCompile(`\b\d\d:\d\d:\d\d\.\d{3}`).ReplaceAllString(text, "TIME")
	text = regexp.MustCompile(`(session"?:?"? ?"?)[\w-]{22}`).ReplaceAllString(text, "${1}SESSION")
	return text
}

func TestErrorsSayWhatIsWrong(t *testing.T) {
	server := startHub(t)
	host := strings.TrimPrefix(server.URL, "http://")
	file := filepath.Join(t.TempDir(), "empty")
	if err := os.WriteFile(file, []byte("\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	nobody := "http://127.0.0.1:1"
	for _, tt := range []struct {
		args   string
		status int
		want   string
	}{
		{"publish", StatusUsage, "evstream publish takes <channel> and [<data>], and got 0 arguments"},
		{"publish a b c", StatusUsage, "got 3 arguments"},
		{"publish a b --nope", StatusUsage, "unknown flag: --nope"},
		{"publish a b --retry -1s", StatusUsage, "--retry is not negative"},
		{"publish a b --lines", StatusUsage, "with --lines the data comes from the standard input"},
		{"publish a b --token x --token-file y", StatusUsage, "token token-file"},
		{"publish a b --token-file " + file, StatusUsage, "has no token"},
		{"publish a b --token-file " + file + "x", StatusUsage, "no such file"},
		{"publish a b --url localhost/live", StatusUsage, "such as https://example.com/live"},
		{"publish a b --url http://%zz --broker x", StatusUsage, "the URL of the hub"},
		{"subscribe", StatusUsage, "evstream subscribe takes the names of channels"},
		{"subscribe a --raw --json", StatusUsage, "raw json"},
		{"subscribe a --last -1", StatusUsage, "--last is not negative"},
		{"subscribe a --count -1", StatusUsage, "not negative"},
		{"subscribe a --last x", StatusUsage, "invalid argument"},
		{"state", 0, ""},
		{"state sett", StatusUsage, "did you mean get or set?"},
		{"state jump --far", StatusUsage, "there is: add, delete, get, patch, set, watch"},
		{"state set a Hello", StatusUsage, "the value is not JSON: invalid character 'H' looking for beginning of value; --string takes text as it is"},
		{"state patch a {", StatusUsage, "the patch is not JSON"},
		{"state add a -1", StatusUsage, "a number below zero comes after --"},
		{"state watch a --count -1", StatusUsage, "not negative"},

		{"state get a", StatusFailed, `channel "a" has no value`},
		{"state delete a", StatusFailed, "404 no-state"},
		{"state add a x", StatusFailed, "400"},
		{"state set a 1 --if-version 1-1", StatusFailed, "412 precondition-failed"},
		{"state patch a []", StatusFailed, ""},
		{"publish a//b c", StatusFailed, "segment"},
		{"publish a b --event evstream.x", StatusFailed, "belong to the hub"},
		{"publish a b --token wrong", StatusFailed, "not accepted here (401 unauthorized)"},
		{"subscribe a --since yesterday", StatusFailed, "400 bad-parameter"},
		{"publish a b --url " + server.URL + "/page", StatusFailed, `http://` + host + ` answers 200 OK, and is not an evstream hub there: the answer is text/html; http://` + host + `/page must be the mount of a handler`},
		{"subscribe a --url " + server.URL + "/page", StatusFailed, "must be the mount of a handler"},
		{"publish a b --url " + nobody, StatusFailed, "nothing listens at http://127.0.0.1:1"},
		{"subscribe a --url " + nobody, StatusFailed, "nothing listens at http://127.0.0.1:1"},
		{"state watch a --url " + nobody, StatusFailed, "nothing listens at http://127.0.0.1:1"},
	} {
		t.Run(tt.args, func(t *testing.T) {
			out, _, err := run(t, "", strings.Fields(tt.args)...)
			switch {
			case tt.status == 0 && err == nil:
			case err == nil || Status(err) != tt.status || !strings.Contains(err.Error(), tt.want):
				t.Errorf("status %d, %v, and printed\n%s", Status(err), err, out)
			}
		})
	}
	t.Setenv("EVSTREAM_TOKEN", "")
	_, _, err := run(t, "", "publish", "a", "b")
	if err == nil || !strings.HasSuffix(err.Error(), "(401 unauthorized); a token is given by EVSTREAM_TOKEN or --token-file") {
		t.Error(err)
	}
}

func TestWhichHubIsMeant(t *testing.T) {
	for _, tt := range []struct{ url, env, admin, broker, want string }{
		{"", "", "", "", "http://localhost:2019/evstream"},
		{"", "", "", "chat", "http://localhost:2019/evstream?broker=chat"},
		{"", "", "127.0.0.1:1234", "", "http://127.0.0.1:1234/evstream"},
		{"", "", ":1234", "", "http://localhost:1234/evstream"},
		{"", "", "tcp/0.0.0.0:1234", "", "http://localhost:1234/evstream"},
		{"", "", "unix//run/caddy.sock", "", "http://127.0.0.1/evstream"},
		{"", "", "unix//run/caddy.sock|0220", "chat", "http://127.0.0.1/evstream?broker=chat"},
		{"", "", "unix/", "", ""},
		{"", "", "udp/:1", "", ""},
		{"", "https://b.example/live", "x", "", "https://b.example/live"},
		{"https://a.example/live?x=1", "https://b.example/live", "", "chat", "https://a.example/live?broker=chat&x=1"},
	} {
		t.Setenv("EVSTREAM_URL", tt.env)
		t.Setenv("CADDY_ADMIN", tt.admin)
		t.Setenv("EVSTREAM_TOKEN", "of another hub")
		h := hubFlags{url: tt.url, broker: tt.broker}
		c, err := h.connect(client.Options{})
		if (err != nil) != (tt.want == "") || err == nil && (c.url != tt.want || c.admin != (tt.url+tt.env == "") || c.token == c.admin) {
			t.Errorf("%+v: %+v, %v", tt, c, err)
		}
	}
	t.Setenv("EVSTREAM_URL", "")
	t.Setenv("CADDY_ADMIN", "127.0.0.1:1")
	_, _, err := run(t, "", "publish", "a", "b")
	if err == nil || !strings.Contains(err.Error(), "no Caddy runs here") {
		t.Error(err)
	}
}

// Each command says in its help how it is called, and the example is right.
func TestEachCommandHasAnExample(t *testing.T) {
	examples := 0
	var check func(cmd *cobra.Command)
	check = func(cmd *cobra.Command) {
		if cmd.HasSubCommands() {
			for _, sub := range cmd.Commands() {
				check(sub)
			}
			return
		}
		if cmd.Short == "" || cmd.Long == "" || !strings.Contains(cmd.Example, "caddy "+cmd.CommandPath()) {
			t.Errorf("%s has no text, or no example", cmd.CommandPath())
		}
		for line := range strings.Lines(cmd.Example) {
			for part := range strings.SplitSeq(line, " | ") {
				rest, ours := strings.CutPrefix(strings.TrimSpace(part), "caddy evstream ")
				if !ours {
					continue
				}
				examples++
				if err := called(words(rest)); err != nil {
					t.Errorf("the example %s is wrong: %v", part, err)
				}
				if strings.Contains(part, "--token ") {
					t.Errorf("the example %s has a token, which other users can see", part)
				}
			}
		}
	}
	for _, cmd := range root().Commands() {
		check(cmd)
	}
	if examples < 20 {
		t.Errorf("only %d examples were found", examples)
	}
}

// words are the arguments of a line of a shell. Quotes are single.
func words(line string) (list []string) {
	for i, part := range strings.Split(line, "'") {
		if i%2 == 1 {
			list = append(list, part)
		} else {
			list = append(list, strings.Fields(part)...)
		}
	}
	return list
}

// called reports what is wrong with the arguments and flags of a command.
func called(args []string) error {
	cmd, rest, err := root().Find(args)
	if err == nil {
		err = cmd.ParseFlags(rest)
	}
	if err == nil {
		err = cmd.ValidateArgs(cmd.Flags().Args())
	}
	return err
}

// userToken is a token of a user.
func userToken(t testing.TB, user string) string {
	t.Helper()
	token, err := auth.Sign(jwtKey, "", map[string]any{"sub": user, "exp": time.Now().Add(time.Hour).Unix()})
	if err != nil {
		t.Fatal(err)
	}
	return token
}
