package cli

import (
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// session is the id of the session of a subscription that has begun.
func session(t *testing.T, notes *printed) string {
	t.Helper()
	until(t, notes, "# connected, session ")
	return regexp.MustCompile(`session (\S+)`).FindStringSubmatch(notes.String())[1]
}

func TestSessionsAreListedAndChanged(t *testing.T) {
	startHub(t)
	out, notes, done := begin(t, "", "subscribe", "lobby", "x/*")
	id := session(t, notes)
	got := strings.Split(must(t, "", "sessions", "list", "--channel", "lobby"), "\n")
	if len(got) != 3 || strings.Join(strings.Fields(got[0]), " ") != "SESSION WHO ADDRESS SINCE PROTOCOL EVENTS LAG CHANNELS" ||
		!strings.HasPrefix(got[1], id+"  bearer backend  127.0.0.1  ") || !strings.HasSuffix(got[1], "  lobby x/*") {
		t.Errorf("got %q", got)
	}
	if got := must(t, "", "sessions", "list", "--json", "--limit", "1"); !strings.HasPrefix(got, `{"session":"`+id+`","bearer":"backend","address":"127.0.0.1",`) || strings.Count(got, "\n") != 1 {
		t.Errorf("got %s", got)
	}
	if got, told, err := run(t, "", "sessions", "list", "--user", "nobody"); got != "" || told != "# 0 sessions\n" || err != nil {
		t.Errorf("%q, %q, %v", got, told, err)
	}
	if got := must(t, "", "sessions", "join", id, "rooms/1"); got != "lobby\nx/*\nrooms/1\n" {
		t.Errorf("got %q", got)
	}
	until(t, notes, "# joined rooms/1\n")
	if got := must(t, "", "sessions", "show", id); !strings.Contains(got, "channels       lobby x/* rooms/1\njoined         rooms/1\n") || !strings.Contains(got, "bearer         backend\n") {
		t.Errorf("got\n%s", got)
	}
	if got := must(t, "", "sessions", "show", id, "--json"); !strings.Contains(got, `"joined":["rooms/1"]`) {
		t.Errorf("got\n%s", got)
	}
	if got := must(t, "", "sessions", "leave", id, "rooms/1", "--json"); got != fmt.Sprintf(`{"session":%q,"channels":["lobby","x/*"]}`+"\n", id) {
		t.Errorf("got %q", got)
	}
	until(t, notes, "# left rooms/1\n")
	must(t, "", "sessions", "send", id, "for you alone", "--event", "hint")
	until(t, out, "(to this session) hint  for you alone\n")
	if got := must(t, "", "end", id, "--reason", "closing time", "--json"); got != fmt.Sprintf(`{"session":%q}`+"\n", id) {
		t.Errorf("got %q", got)
	}
	until(t, notes, "# the stream has ended: closing time\n")
	if err := <-done; err != nil {
		t.Error(err)
	}
	for _, args := range []string{"sessions show " + id, "sessions end " + id, "sessions send " + id + " x", "sessions join " + id + " x"} {
		if _, _, err := run(t, "", strings.Fields(args)...); err == nil || !strings.Contains(err.Error(), "404 no-session") {
			t.Errorf("%s: %v", args, err)
		}
	}
	for _, args := range []string{"sessions list --limit -1", "sessions list x", "sessions show", "sessions send x y --retry -1s", "sessions join x", "end", "channels --limit -1"} {
		if _, _, err := run(t, "", strings.Fields(args)...); err == nil || Status(err) != StatusUsage {
			t.Errorf("%s: %v", args, err)
		}
	}
}

func TestChannelsAreListedAndClosed(t *testing.T) {
	startHub(t)
	must(t, "", "publish", "match.7", "x")
	must(t, "", "state", "set", "match.8", "1")
	must(t, "", "publish", "other", "x")
	if got := must(t, "", "close", "match.7", "Full time", "--event", "whistle"); alike(got) != "ID\n" {
		t.Errorf("got %q", got)
	}
	got, told, err := run(t, "", "channels", "match.")
	got = regexp.MustCompile(`  \d+s`).ReplaceAllString(got, "  0s")
	got = regexp.MustCompile(`2       \d+ +0s`).ReplaceAllString(got, "2       N      0s")
	want := "CHANNEL  READERS  EVENTS  BYTES  NEWEST  VALUE  CLOSED\n" +
		"match.7  0        2       N      0s      -      yes\n" +
		"match.8  0        0       0      -       yes    -\n"
	if got != want || told != "# 2 channels\n" || err != nil {
		t.Errorf("got\n%s%s, %v", got, told, err)
	}
	if got := must(t, "", "channels", "--json", "--limit", "1"); !strings.HasPrefix(got, `{"channel":"match.7","subscribers":0,"history":{"events":2`) || strings.Count(got, "\n") != 1 {
		t.Errorf("got %s", got)
	}
	out, notes, err := run(t, "", "subscribe", "match.7", "--since", "earliest")
	if err != nil || alike(out) != "TIME  x\nTIME  whistle  Full time\n" || !strings.HasSuffix(notes, "# the stream has ended\n") {
		t.Errorf("%q, %q, %v", out, notes, err)
	}
	if out := must(t, "", "subscribe", "match.7", "--json"); !strings.HasSuffix(out, `{"kind":"end"}`+"\n") {
		t.Errorf("got %s", out)
	}
	if _, _, err := run(t, "", "publish", "match.7", "x"); err == nil || !strings.Contains(err.Error(), "409 closed") {
		t.Error(err)
	}
	must(t, "", "purge", "match.7")
	must(t, "", "publish", "match.7", "x")
	if _, _, err := run(t, "", "presence", "match.7"); err == nil || !strings.Contains(err.Error(), "has no presence") {
		t.Error(err)
	}
}

func TestATokenIsInspected(t *testing.T) {
	now := time.Now().Unix()
	made := func(header, claims string) string {
		e := base64.RawURLEncoding.EncodeToString
		return e([]byte(header)) + "." + e([]byte(claims)) + ".c2ln"
	}
	good := made(`{"alg":"HS256"}`, fmt.Sprintf(`{"sub":"al\u001bice","exp":%d,"evstream":{"subscribe":["a/*"]}}`, now+3600))
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte("Bearer "+good+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	inspect := func(in string, args ...string) (string, error) {
		cmd := TokenInspect()
		out := new(printed)
		cmd.SetOut(out)
		cmd.SetErr(out)
		cmd.SetIn(strings.NewReader(in))
		cmd.SetArgs(append([]string{}, args...)) // nil would be those of the tests
		cmd.SilenceErrors, cmd.SilenceUsage = true, true
		err := cmd.ExecuteContext(t.Context())
		return out.String(), err
	}
	out, err := inspect("", "--token-file", file)
	if err != nil || !strings.Contains(out, `sub       al\x1bice`) || !strings.Contains(out, ", in 1h0m0s\n") && !strings.Contains(out, ", in 59m5") || !strings.Contains(out, `{"subscribe":["a/*"]}  what it allows`) {
		t.Errorf("%v\n%s", err, out)
	}
	if out, err := inspect(good, "-", "--json"); err != nil || out != fmt.Sprintf(`{"header":{"alg":"HS256"},"claims":{"evstream":{"subscribe":["a/*"]},"exp":%d,"sub":"al\u001bice"}}`+"\n", now+3600) {
		t.Errorf("%v\n%s", err, out)
	}
	for _, tt := range []struct {
		token  string
		status int
		want   string
	}{
		{made(`{"alg":"HS256"}`, fmt.Sprintf(`{"exp":%d}`, now-90)), StatusFailed, "the token has expired 1m ago"},
		{made(`{"alg":"HS256"}`, fmt.Sprintf(`{"nbf":%d}`, now+90)), StatusFailed, "is not valid before"},
		{made(`{"alg":"none"}`, `{}`), StatusFailed, "not signed"},
		{made(`{"alg":"none"`, `{}`), StatusFailed, "its header"},
		{"a.b!.c", StatusFailed, "its header"},
		{made(`{}`, `[]`), StatusFailed, "its claims"},
		{"secret", StatusFailed, "the secret of a bearer says nothing of itself"},
		{strings.Repeat("x", maxToken+1), StatusFailed, "more than"},
		{"", StatusUsage, "EVSTREAM_TOKEN is unset or empty"},
	} {
		t.Setenv("EVSTREAM_TOKEN", tt.token)
		if _, err := inspect(""); err == nil || Status(err) != tt.status || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v", tt.want, err)
		}
	}
	for _, args := range [][]string{{good}, {"-", "-"}, {"-", "--token-file", file}, {"--token-file", file + "x"}, {"--nope"}} {
		if _, err := inspect("", args...); err == nil || Status(err) != StatusUsage {
			t.Errorf("%q: %v", args, err)
		}
	}
}

func TestWhoIsPresentIsListed(t *testing.T) {
	startHub(t)
	t.Setenv("EVSTREAM_TOKEN", userToken(t, "bob"))
	out, notes, _ := begin(t, "", "subscribe", "chat/1", "--presence")
	session(t, notes)
	until(t, out, "1 present")
	got, told, err := run(t, "", "presence", "chat/1")
	if lines := strings.Split(got, "\n"); err != nil || len(lines) != 3 || lines[0] != "USER  STREAMS  SINCE  METADATA" || !strings.HasPrefix(lines[1], "bob   1        ") || told != "# 1 present\n" {
		t.Errorf("%q, %q, %v", got, told, err)
	}
	if got := must(t, "", "presence", "chat/1", "--json"); !strings.HasPrefix(got, `{"channel":"chat/1","count":1,"anonymous":0,"members":[{"user":"bob","sessions":1,"since":`) {
		t.Errorf("got %s", got)
	}
}
