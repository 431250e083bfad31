package evstream

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/evstream/caddy-evstream/cli/token"
	"github.com/evstream/caddy-evstream/internal/authtest"
)

// makeToken runs "caddy evstream token".
func makeToken(args ...string) (string, error) {
	cmd := token.Command()
	var out strings.Builder
	cmd.SetOut(&out)
	cmd.SetArgs(append([]string{}, args...)) // nil would be those of the tests
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	err := cmd.Execute()
	return strings.TrimSpace(out.String()), err
}

func TestTheCommandMakesATokenThatTheHubAccepts(t *testing.T) {
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	ecKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	edPublic, edKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	write := func(name, kind string, der []byte, err error) string {
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	pair := func(name string, private, public any) (string, string) {
		der, err := x509.MarshalPKCS8PrivateKey(private)
		key := write(name, "PRIVATE KEY", der, err)
		der, err = x509.MarshalPKIXPublicKey(public)
		return key, write(name+".pub", "PUBLIC KEY", der, err)
	}
	rsaPrivate, rsaPublic := pair("rsa", rsaKey, rsaKey.Public())
	ecPrivate, ecPublic := pair("ec", ecKey, ecKey.Public())
	edPrivate, edPublicFile := pair("ed", edKey, edPublic)
	secret := filepath.Join(dir, "secret")
	windows := filepath.Join(dir, "windows")
	for file, end := range map[string]string{secret: "\n", windows: "\r\n"} {
		if err := os.WriteFile(file, []byte(authtest.Secret+end), 0o600); err != nil {
			t.Fatal(err)
		}
	}

	address := freeAddress(t)
	t.Setenv("EVSTREAM_JWT_KEY", authtest.Secret)
	load(t, site(address, "", "\t\tjwt {\n\t\t\tkey {env.EVSTREAM_JWT_KEY}\n\t\t\tkey {file."+rsaPublic+"}\n\t\t\tkey {file."+ecPublic+"}\n\t\t\tkey {file."+edPublicFile+"}\n\t\t}\n\t\tallow user publish users/{user}\n\t\tallow claim org acme publish orgs"))
	for _, key := range [][]string{nil, {"--key-file", secret}, {"--key-file", windows}, {"--key-file", rsaPrivate}, {"--key-file", ecPrivate}, {"--key-file", edPrivate, "--kid", "7"}} {
		token, err := makeToken(append(key, "--user", "alice", "--claim", "org=acme", "--publish", "chat/7", "--publish", "more/**", "--expires", "1m")...)
		if err != nil {
			t.Fatal(key, err)
		}
		for channel, want := range map[string]int{"users/alice": 200, "orgs": 200, "chat/7": 200, "more/a/b": 200, "users/bob": 403, "chat/8": 403} {
			if status, body := post(t, "http://"+address+"/live/"+channel, "x", header("Authorization", "Bearer "+token)); status != want {
				t.Errorf("%v, %s: %d %s, want %d", key, channel, status, body, want)
			}
		}
	}
	if status, _ := post(t, "http://"+address+"/live/orgs", "x"); status != http.StatusUnauthorized {
		t.Errorf("without a token: %d", status)
	}

	t.Setenv("EVSTREAM_JWT_KEY", "short")
	for _, tt := range []struct {
		args []string
		want string
	}{
		{nil, "the key of the environment variable EVSTREAM_JWT_KEY: the secret has 5 bytes, at least 32 are needed"},
		{[]string{"--key-env", "EVSTREAM_TEST_UNSET"}, "the environment variable EVSTREAM_TEST_UNSET is unset or empty"},
		{[]string{"--key-file", rsaPublic}, "tokens are signed with a private key"},
		{[]string{"--key-file", secret, "--expires", "0s"}, "--expires must be above zero"},
		{[]string{"--key-file", secret, "--publish", "a/**b"}, "a/**b"},
		{[]string{"--key-file", secret, "--claim", "org"}, "a claim is name=value"},
		{[]string{"--key-file", secret, "--claim", "org=a", "--claim", "org=b"}, "the claim org is given twice"},
		{[]string{"--key-file", secret, "--claim", "sub=alice"}, "--claim sub: --user gives this claim"},
		{[]string{"--key-file", secret, "--claim", "exp=2000000000"}, "--claim exp: --expires gives this claim, as a duration"},
		{[]string{"--key-file", secret, "--claim", "iat=1"}, "--claim iat: this claim is the time at which the token is made"},
		{[]string{"--key-file", secret, "--claim", `evstream={"subscribe":["a"]}`, "--publish", "a"}, "--claim evstream excludes --publish"},
		{[]string{"--key-file", secret, "--key-env", "X"}, "[key-env key-file] were all set"},
		{[]string{"--key-file", secret, "--user", ""}, "--user is empty"},
	} {
		if token, err := makeToken(tt.args...); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%v: %q, %v", tt.args, token, err)
		}
	}
}
