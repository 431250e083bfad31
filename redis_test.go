package evstream

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/evstream/caddy-evstream/redisadapter"
)

// provisioned is an adapter that was configured so.
func provisioned(t *testing.T, config string) (*RedisAdapter, error) {
	t.Helper()
	a := new(RedisAdapter)
	if err := caddy.StrictUnmarshalJSON([]byte(config), a); err != nil {
		t.Fatal(err)
	}
	return a, a.Provision(caddy.Context{})
}

// mustProvision is what the log of the broker "chat" is configured with.
func mustProvision(t *testing.T, config string) redisadapter.Config {
	t.Helper()
	a, err := provisioned(t, config)
	if err != nil {
		t.Fatalf("%s: %v", config, err)
	}
	return a.configOf("chat")
}

// writeFile writes a file of its own and returns its path.
func writeFile(t *testing.T, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestRedisIsConfiguredAsItIsWritten(t *testing.T) {
	def := redisadapter.DefaultConfig()
	c := mustProvision(t, `{"url":"redis://10.0.0.5:6379"}`)
	if got := fmt.Sprint(c.Addresses, c.DB, c.Master, c.Cluster, c.Prefix, c.MaxBytes, c.LiveAge, c.Wait, c.Username, c.Password, c.TLS, c.Credentials == nil); got !=
		fmt.Sprint([]string{"10.0.0.5:6379"}, 0, "", false, "evstream:chat", def.MaxBytes, def.LiveAge, 0, "", "", c.TLS, true) || c.TLS != nil {
		t.Errorf("got %s", got)
	}
	t.Setenv("EVSTREAM_TOKEN", "p:/@ {x}")
	t.Setenv("EVSTREAM_TEST_ADDRESS", "b:2")
	c = mustProvision(t, `{"addresses":["a:1","{env.EVSTREAM_TEST_ADDRESS}"],"username":"u","password":"{env.EVSTREAM_TOKEN}","db":2,"prefix":"p",
		"sentinel":{"master":"m","username":"s","password":"{env.EVSTREAM_TOKEN}"},"wait":{"replicas":2,"timeout":"500ms"},
		"max_size":2097152,"live_age":"3m","tls":{"server_name":"r"}}`)
	if got, want := fmt.Sprint(c.Addresses, c.Username, c.Password, c.DB, c.Prefix, c.Master, c.SentinelUsername, c.SentinelPassword, c.Wait, c.WaitTimeout, c.MaxBytes, c.LiveAge, c.TLS.ServerName),
		fmt.Sprint([]string{"a:1", "b:2"}, "u", "p:/@ {x}", 2, "p", "m", "s", "p:/@ {x}", 2, 500*time.Millisecond, 2<<20, 3*time.Minute, "r"); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestWhereRedisIsAndWhoSignsInStandsInAURLToo(t *testing.T) {
	t.Setenv("EVSTREAM_TOKEN", "p:/@ {x}")
	t.Setenv("EVSTREAM_TEST_HOST", "redis.test:7000")
	t.Setenv("EVSTREAM_TEST_URL", "rediss://ada:p%40ss@10.0.0.5:6380/3")
	for raw, want := range map[string]string{
		"redis://10.0.0.5:6379/0":                                      "[10.0.0.5:6379] 0 <> <> false",
		"redis://10.0.0.5":                                             "[10.0.0.5:6379] 0 <> <> false",
		"rediss://10.0.0.5:6379/1":                                     "[10.0.0.5:6379] 1 <> <> true",
		"redis://:p%40ss@10.0.0.5:6379":                                "[10.0.0.5:6379] 0 <> <p@ss> false",
		"redis://ada:p:ss@10.0.0.5:6379":                               "[10.0.0.5:6379] 0 <ada> <p:ss> false",
		"redis://ada:{env.EVSTREAM_TOKEN}@10.0.0.5":                    "[10.0.0.5:6379] 0 <ada> <p:/@ {x}> false",
		"redis://:{file." + writeFile(t, "a:b@\n") + "}@h":             "[h:6379] 0 <> <a:b@> false",
		"redis://{env.EVSTREAM_TEST_HOST}/1":                           "[redis.test:7000] 1 <> <> false",
		"redis://10.0.0.5?master_name=m&password={env.EVSTREAM_TOKEN}": "[10.0.0.5:6379] 0 <> <p:/@ {x}> false",
		"unix:///run/redis.sock?db=1":                                  "[/run/redis.sock] 1 <> <> false",
		"{env.EVSTREAM_TEST_URL}":                                      "[10.0.0.5:6380] 3 <ada> <p@ss> true",
	} {
		c := mustProvision(t, fmt.Sprintf(`{"url":%q}`, raw))
		if got := fmt.Sprintf("%s %d <%s> <%s> %t", c.Addresses, c.DB, c.Username, c.Password, c.TLS != nil); got != want {
			t.Errorf("%s is %s, want %s", raw, got, want)
		}
	}
}

func TestRedisThatCannotBe(t *testing.T) {
	t.Setenv("EVSTREAM_TOKEN", "hush")
	t.Setenv("EVSTREAM_EMPTY", "")
	t.Setenv("EVSTREAM_TEST_URL", "redis://:hush@host:hush")
	empty := writeFile(t, "")
	for config, want := range map[string]string{
		`{}`:                                                                                "redis needs a url, such as redis://localhost:6379, or addresses",
		`{"url":"http://a:hush@b"}`:                                                         "url: the URL of Redis must be like redis://",
		`{"url":"redis://hush@"}`:                                                           "url: the URL of Redis must be like redis://",
		`{"url":"redis://:hush"}`:                                                           "url: the URL of Redis must be like redis://",
		`{"url":"redis://:hush%@a:1"}`:                                                      "url: the URL of Redis must be like redis://",
		`{"url":"{env.EVSTREAM_TEST_URL}"}`:                                                 "url: the URL of Redis must be like redis://",
		`{"url":"{env.EVSTREAM_UNSET}"}`:                                                    "url: {env.EVSTREAM_UNSET} must be set in the environment",
		`{"url":"redis://:{env.EVSTREAM_EMPTY}@a"}`:                                         "url: the placeholder {env.EVSTREAM_EMPTY} is empty",
		`{"url":"redis://a","addresses":["b:1"]}`:                                           "url and addresses say the same thing",
		`{"url":"redis://:hush@a","password":"x"}`:                                          "the url has a password already",
		`{"url":"redis://u@a","username":"x"}`:                                              "the url has a username already",
		`{"addresses":["a"]}`:                                                               "address 1 must be a host and a port, such as localhost:6379",
		`{"addresses":["u:hush@a:1"]}`:                                                      "address 1 must be a host and a port, such as localhost:6379",
		`{"addresses":["{env.EVSTREAM_TOKEN}"]}`:                                            "address 1 must be a host and a port, such as localhost:6379",
		`{"url":"redis://a:1?addr=b:2","sentinel":{"master":"m"}}`:                          "a log is in a Cluster or behind Sentinels, not both",
		`{"url":"redis://a?mistery={env.EVSTREAM_TOKEN}"}`:                                  "url: the URL of Redis has an unknown parameter",
		`{"addresses":["a:1","b:2"]}`:                                                       "there are 2 addresses",
		`{"addresses":["a:1"],"password":"{env.EVSTREAM_UNSET}"}`:                           "password: {env.EVSTREAM_UNSET} must be set in the environment",
		`{"addresses":["a:1"],"password":"{file./no/such/file}"}`:                           "password: ",
		`{"addresses":["a:1"],"password":"{file.` + empty + `}"}`:                           "password: ",
		`{"addresses":["a:1"],"username":"{env.EVSTREAM_EMPTY}"}`:                           "username: ",
		`{"addresses":["a:1"],"sentinel":{}}`:                                               "sentinel: the name of the master is missing",
		`{"addresses":["a:1"],"sentinel":{"master":"m"},"cluster":true}`:                    "a log is in a Cluster or behind Sentinels, not both",
		`{"addresses":["a:1"],"sentinel":{"master":"m","password":"{env.EVSTREAM_UNSET}"}}`: "sentinel: password: ",
		`{"addresses":["a:1"],"cluster":true,"db":1}`:                                       "database",
		`{"addresses":["a:1"],"db":-1}`:                                                     "database",
		`{"addresses":["a:1"],"wait":{}}`:                                                   "wait: the number of replicas must be at least 1, not 0",
		`{"addresses":["a:1"],"wait":{"replicas":1,"timeout":"1h"}}`:                        "1h0m0s",
		`{"addresses":["a:1"],"wait":{"replicas":1,"timeout":-1}}`:                          "-1ns",
		`{"addresses":["a:1"],"max_size":1024}`:                                             "1024 bytes",
		`{"addresses":["a:1"],"live_age":-1}`:                                               "-1ns",
		`{"addresses":["a:1"],"live_age":"1ms"}`:                                            "1ms",
		`{"addresses":["a:1"],"prefix":"{x}"}`:                                              "the prefix must be",
		`{"addresses":["a:1"],"tls":{"certificate":"a"}}`:                                   "tls: certificate and key go together",
		`{"addresses":["a:1"],"tls":{"certificate":"/no/a","key":"/no/b"}}`:                 "tls: certificate: open /no/a: no such file or directory",
		`{"addresses":["a:1"],"tls":{"ca":["/no/a"]}}`:                                      "tls: ca: open /no/a: no such file or directory",
		`{"addresses":["a:1"],"tls":{"ca":["` + empty + `"]}}`:                              "tls: ca: there is no certificate in " + empty,
	} {
		_, err := provisioned(t, config)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hush") {
			t.Errorf("%s\ngot the error %v\nwant         %s", config, err, want)
		}
	}
}

func TestWhatIdentifiesALogInRedis(t *testing.T) {
	t.Setenv("EVSTREAM_TOKEN", "hush")
	identity := func(config string) string {
		t.Helper()
		a, err := provisioned(t, config)
		if err != nil {
			t.Fatalf("%s: %v", config, err)
		}
		got := a.Identity("chat")
		if strings.Contains(got, "hush") {
			t.Errorf("there is a secret in %s", got)
		}
		return got
	}
	for base, same := range map[string][]string{
		`{"url":"redis://a:6379"}`: {
			`{"url":"redis://a:6379/0"}`, `{"addresses":["a:6379"]}`, `{"url":"redis://u:hush@a"}`, `{"url":"rediss://a"}`,
			`{"addresses":["a:6379"],"username":"u","password":"{env.EVSTREAM_TOKEN}","prefix":"evstream:chat","max_size":"unlimited",
				"live_age":"2m","wait":{"replicas":1},"tls":{}}`,
		},
		`{"addresses":["a:1","b:2"],"sentinel":{"master":"m"}}`: {
			`{"addresses":["b:2","a:1","b:2"],"sentinel":{"master":"m","username":"u","password":"hush"}}`,
		},
	} {
		for _, other := range same {
			if got, want := identity(other), identity(base); got != want {
				t.Errorf("%s is %s, and\n%s is %s", other, got, base, want)
			}
		}
	}
	seen := map[string]string{}
	for _, config := range []string{
		`{"addresses":["a:1"]}`, `{"addresses":["b:1"]}`, `{"addresses":["a:2"]}`, `{"addresses":["a:1"],"db":1}`,
		`{"addresses":["a:1"],"cluster":true}`, `{"addresses":["a:1"],"prefix":"evstream:default"}`,
		`{"addresses":["a:1"],"sentinel":{"master":"m"}}`, `{"addresses":["a:1"],"sentinel":{"master":"n"}}`,
	} {
		got := identity(config)
		if other, ok := seen[got]; ok {
			t.Errorf("%s is the same as %s", config, other)
		}
		seen[got] = config
	}
}

func TestASecretInAFileIsReadForEachConnection(t *testing.T) {
	name := writeFile(t, "first\n")
	for _, config := range []string{
		fmt.Sprintf(`{"addresses":["a:1"],"username":"u","password":"{file.%s}"}`, name),
		fmt.Sprintf(`{"url":"redis://u:{file.%s}@a:1"}`, name),
	} {
		if err := os.WriteFile(name, []byte("first\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		c := mustProvision(t, config)
		for _, want := range []string{"first", "second"} {
			if err := os.WriteFile(name, []byte(want+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			if username, password, err := c.Credentials(context.Background()); username != "u" || password != want || err != nil {
				t.Errorf("%s: %q, %q, %v, want %q", config, username, password, err, want)
			}
		}
		if err := os.Truncate(name, 0); err != nil {
			t.Fatal(err)
		}
		if _, password, err := c.Credentials(context.Background()); err == nil || password != "" {
			t.Errorf("%s: an empty file is the password %q", config, password)
		}
	}
}

// The configuration is written to disk by Caddy as it was given.
func TestSecretsAreNotInTheConfigurationThatIsKept(t *testing.T) {
	t.Setenv("EVSTREAM_TOKEN", "hush")
	a, err := provisioned(t, `{"url":"redis://:{env.EVSTREAM_TOKEN}@a:1","tls":{},"sentinel":{"master":"m","password":"{env.EVSTREAM_TOKEN}"}}`)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(a)
	if err != nil || strings.Contains(string(text), "hush") || !strings.Contains(string(text), "{env.EVSTREAM_TOKEN}") {
		t.Errorf("%s, %v", text, err)
	}
}
