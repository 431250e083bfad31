package evstream

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"golang.org/x/crypto/bcrypt"

	"github.com/evstream/caddy-evstream/internal/authtest"
)

// tokenBlock accepts the tokens that authtest signs.
const tokenBlock = "\t\tjwt {\n\t\t\tkey \"" + authtest.Secret + "\"\n\t\t}\n"

func TestCaddysAuthenticationIsKeptOverReloads(t *testing.T) {
	address := freeAddress(t)
	hash, err := bcrypt.GenerateFromPassword([]byte("hiccup"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	config := func(more string) string {
		return options("") + fmt.Sprintf("http://%s {\n\troute {\n\t\tbasic_auth {\n\t\t\talice %s\n\t\t}\n\t\tevstream {\n\t\t\tmount /live\n\t\t\tallow anyone subscribe,publish **\n%s\n\t\t}\n\t}\n}\n", address, hash, more)
	}
	load(t, config("\t\t\tcaddy_auth"))
	url := "http://" + address + "/live/a"
	login := func(r *http.Request) {
		r.SetBasicAuth("alice", "hiccup")
		r.Header.Set("Origin", "http://"+address)
	}
	s := subscribe(t, url, login)
	h := theHub(t, "default")
	user := func() string {
		l := h.Sessions()
		if len(l) != 1 {
			t.Fatalf("%d streams", len(l))
		}
		return h.Standing(l[0]).Caller.User
	}
	if user() != "alice" {
		t.Errorf("it is %q", user())
	}
	if err := reload(t, config("\t\t\tcaddy_auth\n\t\t\theartbeat 20s")); err != nil {
		t.Fatal(err)
	}
	mustPublish(t, url, "on", login)
	s.expect("on")
	if user() != "alice" {
		t.Errorf("after a reload it is %q", user())
	}
	// Where that is not believed any more, it is nobody.
	if err := reload(t, config("\t\t\theartbeat 20s")); err != nil {
		t.Fatal(err)
	}
	mustPublish(t, url, "still on", login)
	s.expect("still on")
	if user() != "" {
		t.Errorf("it is %q still", user())
	}
}

// Whom a handler in front has only been told of, and has not authenticated, is
// no user.
func TestTheUserInFrontIsWhoIsAuthenticated(t *testing.T) {
	for _, user := range []string{"", "alice"} {
		repl := caddy.NewReplacer()
		if user != "" {
			repl.Set("http.auth.user.id", user)
		}
		repl.Set("http.auth.candidate.id", "candidate")
		r := httptest.NewRequest("GET", "/", nil)
		if got := outerUser(r); got != "" {
			t.Errorf("outside of a server it is %q", got)
		}
		r = r.WithContext(context.WithValue(r.Context(), caddy.ReplacerCtxKey, repl))
		if got := outerUser(r); got != user {
			t.Errorf("got %q, want %q", got, user)
		}
	}
}

func TestAReloadJudgesTokensByTheKeysOfNow(t *testing.T) {
	address := freeAddress(t)
	config := func(keys ...string) string {
		block := "\t\tjwt {\n"
		for _, key := range keys {
			block += "\t\t\tkey \"" + key + "\"\n"
		}
		return site(address, "", block+"\t\t}\n\t\tallow anyone subscribe,publish **")
	}
	old, renewed := strings.Repeat("old ", 8)+"x", strings.Repeat("new ", 8)+"x"
	by := func(key string) func(*http.Request) {
		return header("Authorization", "Bearer "+authtest.SignWith(t, "HS256", []byte(key), authtest.Alice(nil)))
	}
	load(t, config(old))
	url := "http://" + address + "/live/a"
	before := subscribe(t, url, by(old))
	if err := reload(t, config(renewed, old)); err != nil {
		t.Fatal(err)
	}
	after := subscribe(t, url, by(renewed))
	mustPublish(t, url, "both", by(old))
	before.expect("both")
	after.expect("both")
	if err := reload(t, config(renewed)); err != nil {
		t.Fatal(err)
	}
	before.ended()
	mustPublish(t, url, "one", by(renewed))
	after.expect("one")
	if s := connect(t, url, by(old)); s.status != http.StatusUnauthorized {
		t.Errorf("the old key: %d", s.status)
	}
}

func TestKeySetsLiveOverReloads(t *testing.T) {
	var fetches atomic.Int32
	body, err := json.Marshal(map[string]any{"keys": []any{authtest.JWK("ES256", "a")}})
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fetches.Add(1)
		w.Write(body)
	}))
	defer s.Close()
	address := freeAddress(t)
	block := "\t\tjwt {\n\t\t\tjwks " + s.URL + "\n%s\t\t}\n\t\tallow anyone subscribe,publish **"
	load(t, site(address, "", fmt.Sprintf(block, "")))
	token := header("Authorization", "Bearer "+authtest.Sign(t, "ES256", authtest.Alice(authtest.Claims{"iss": "x"})))
	kept := subscribe(t, "http://"+address+"/live/a", token)
	for i := range 3 {
		if err := reload(t, site(address, "", fmt.Sprintf(block, fmt.Sprintf("\t\t\tleeway %ds\n", i+1)))); err != nil {
			t.Fatal(err)
		}
	}
	mustPublish(t, "http://"+address+"/live/a", "on", token)
	kept.expect("on")
	if n := fetches.Load(); n != 1 {
		t.Errorf("%d fetches, want 1", n)
	}
	// With a key set that is not known yet nobody can be judged: it ends, and
	// its client comes back to be judged anew.
	if err := reload(t, site(address, "", fmt.Sprintf(strings.Replace(block, s.URL, s.URL+"/new", 1), ""))); err != nil {
		t.Fatal(err)
	}
	kept.ended()
	subscribe(t, "http://"+address+"/live/a", token)
	if n := fetches.Load(); n != 2 {
		t.Errorf("%d fetches, want 2", n)
	}
	// The keys of the old configuration are not held any more.
	if err := reload(t, site(address, "", fmt.Sprintf(block, ""))); err != nil {
		t.Fatal(err)
	}
	subscribe(t, "http://"+address+"/live/a", token)
	if n := fetches.Load(); n != 3 {
		t.Errorf("%d fetches, want 3", n)
	}
}

func TestAStreamBeginsWithTheApplicationsEventAndKeepsItsCaller(t *testing.T) {
	app := authtest.StartApplication(t, authtest.Says(200, `{"user":"alice","event":{"event":"hello","data":"Hello, Alice"}}`))
	address := freeAddress(t)
	config := func(url, more string) string {
		return site(address, "", "\t\tverify "+url+more+"\n\t\tallow anyone subscribe,publish **")
	}
	load(t, config(app.URL, ""))
	url := "http://" + address + "/live/a"
	s := subscribe(t, url)
	s.expect("Hello, Alice")
	asked := app.Asked.Load()
	if err := reload(t, config(app.URL, " {\n\t\t\ttimeout 3s\n\t\t}")); err != nil {
		t.Fatal(err)
	}
	if app.Asked.Load() != asked {
		t.Error("the reload asked the application")
	}
	h := theHub(t, "default")
	if l := h.Sessions(); len(l) != 1 || h.Standing(l[0]).Caller.User != "alice" {
		t.Errorf("got %+v", l)
	}
	mustPublish(t, url, "on", header("Origin", "http://"+address))
	s.expect("on")
	// Another application has not said that it is Alice: the client comes back
	// to have it asked.
	if err := reload(t, config(app.URL+"/other", "")); err != nil {
		t.Fatal(err)
	}
	s.ended()
}

// Secrets and keys are read where their placeholders say, before anything is
// asked of them. No error tells one.
func TestSecretsAreReadFromTheirPlaceholders(t *testing.T) {
	dir := t.TempDir()
	file := func(name, content string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return "{file." + path + "}"
	}
	t.Setenv("EVSTREAM_TEST_EMPTY", "")
	block, _ := pem.Decode([]byte(authtest.PublicPEM(t, "EdDSA")))
	block.Bytes[len(block.Bytes)-1] = '\n' // which is lost when it is read from a file
	const key, rule = "a secret of thirty-two bytes or more", "\t\tallow anyone subscribe **"
	jwt := func(key string) string { return "\t\tjwt {\n\t\t\tkey `" + key + "`\n\t\t}\n" + rule }
	tickets := func(key string) string {
		return "\t\tbearer b c\n\t\ttickets {\n\t\t\tkey " + strings.Repeat("x", 32) + "\n\t\t\tkey " + key + "\n\t\t}\n" + rule
	}
	for _, tt := range []struct{ name, block, want string }{
		{"a key of a file", jwt(file("secret", key+"\n")), ""},
		{"a JSON Web Key, which has braces", jwt(`{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}`), ""},
		{"a key that is unset", jwt("{env.EVSTREAM_TEST_UNSET}"), "jwt: key 1: "},
		{"a key that is empty", jwt("{env.EVSTREAM_TEST_EMPTY}"), "jwt: key 1: "},
		{"a public key of a file", jwt(file("key.der", string(block.Bytes))), "looks like a public key"},
		{"a public key", jwt(base64.StdEncoding.EncodeToString(block.Bytes)), "looks like a public key"},
		{"a ticket's key of a file", tickets(file("tickets", key)), ""},
		{"a ticket's key that is unset", tickets("{env.EVSTREAM_TEST_UNSET}"), "tickets: key 2: {env.EVSTREAM_TEST_UNSET} must be set"},
		{"a bearer's secret of a file", "\t\tbearer b " + file("bearer", key) + "\n" + rule, ""},
		{"a bearer's secret that is unset", "\t\tbearer b {env.EVSTREAM_TEST_UNSET}\n" + rule, `the secret of bearer "b": `},
		{"a bearer's secret that is empty", "\t\tbearer b {env.EVSTREAM_TEST_EMPTY}\n" + rule, `the secret of bearer "b"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := validate(t, site(freeAddress(t), "", tt.block))
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
			if err != nil && strings.Contains(err.Error(), key) {
				t.Errorf("%v tells a secret", err)
			}
		})
	}
}
