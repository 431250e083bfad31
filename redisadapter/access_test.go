package redisadapter

import (
	"context"
	"errors"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/broker/logtest"
	"github.com/evstream/caddy-evstream/internal/redistest"
	"github.com/evstream/caddy-evstream/redisadapter/internal/entry"
)

// documentedRules are the access rules in the comment of Config, with another
// prefix.
func documentedRules(t *testing.T, prefix string) []string {
	t.Helper()
	source, err := os.ReadFile("config.go")
	if err != nil {
		t.Fatal(err)
	}
	_, text, ok := strings.Cut(string(source), "ACL SETUSER evstream on >PASSWORD ")
	text, _, end := strings.Cut(text, "//\n")
	if !ok || !end {
		t.Fatal("the comment of Config has no rules")
	}
	text = strings.ReplaceAll(strings.ReplaceAll(text, "//", ""), "{evstream:chat}", "{"+prefix+"}")
	return strings.Fields(text)
}

// TestUserWithTheDocumentedRulesIsEnough runs the contract as such a user.
func TestUserWithTheDocumentedRulesIsEnough(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t, redistest.ACLUser("evstream", "secret", documentedRules(t, "acl")...))
	config := func(prefix string) Config {
		cfg := testConfig(s.Addr())
		cfg.Prefix, cfg.Username, cfg.Password = prefix, "evstream", "secret"
		return cfg
	}
	h := harness(func(*testing.T) Config { return config("acl") })
	open := h.Open
	h.Open = func(t *testing.T) broker.Log {
		do(t, s, "FLUSHALL")
		return open(t)
	}
	logtest.Run(t, h)
	// What the contract does not use.
	log := openLog(t, config("acl"))
	appendAll(t, log, event("a", "x"))
	_, beating := log.beat(t.Context())
	_, trimming := log.trim(t.Context())
	if err := errors.Join(beating, trimming, log.Report(t.Context(), map[string]int{"a": 1, "b": 0})); err != nil {
		t.Error(err)
	}
	if denied := do(t, s, "ACL", "LOG").([]any); len(denied) > 0 {
		t.Errorf("the user was denied: %v", denied)
	}
	mustFail(t, openLog(t, config("acl2")), broker.ErrUnavailable, "the access rules of Redis", event("a", "x"))
}

func TestUserWithTheDocumentedRulesIsEnoughInACluster(t *testing.T) {
	t.Parallel()
	c := redistest.StartCluster(t, 3, 0, redistest.ACLUser("evstream", "secret", documentedRules(t, "evstream:test")...))
	cfg := testConfig("")
	cfg.Addresses, cfg.Cluster, cfg.Username, cfg.Password = c.Addrs(), true, "evstream", "secret"
	log := openLog(t, cfg)
	owner := c.Owner(c.Slot(newKeys(cfg.Prefix).meta))
	appendAll(t, log, event("a", "x"))
	for _, to := range c.Masters() {
		if to != owner {
			c.MigrateSlot(c.Slot(newKeys(cfg.Prefix).meta), to)
			break
		}
	}
	appendAll(t, log, event("a", "y"))
	for _, node := range c.Nodes() {
		if denied := do(t, node, "ACL", "LOG").([]any); len(denied) > 0 {
			t.Errorf("the user was denied: %v", denied)
		}
	}
}

func TestUserWhoMayNotDoEverythingIsToldWhat(t *testing.T) {
	t.Parallel()
	rules := documentedRules(t, "evstream:test")
	for missing, want := range map[string]string{
		"+xadd":    "access rules of Redis",
		"+evalsha": "access rules of Redis",
		"+hset":    "after it had begun to write", // it leaves an entry that meta does not name
	} {
		some := slices.DeleteFunc(slices.Clone(rules), func(rule string) bool { return rule == missing })
		s := redistest.Start(t, redistest.ACLUser("evstream", "secret", some...))
		cfg := testConfig(s.Addr())
		cfg.Username, cfg.Password = "evstream", "secret"
		log := openLog(t, cfg)
		_, err := log.Append(context.Background(), []broker.Op{event("a", "x")})
		if err == nil || !strings.Contains(err.Error(), want) || errors.Is(err, broker.ErrUncertain) != (missing == "+hset") {
			t.Errorf("without %s: %v", missing, err)
		}
	}
}

var secretWord = regexp.MustCompile(`hunter\d`)

func TestPasswordThatIsWrongAndThenChanged(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t, redistest.Password("hunter1"))
	cfg := testConfig(s.Addr())
	cfg.Password = "hunter2"
	log := openLog(t, cfg)
	refuse := func(want string) {
		t.Helper()
		_, err := log.Append(context.Background(), []broker.Op{event("a", "x")})
		if !errors.Is(err, broker.ErrUnavailable) || !strings.Contains(err.Error(), want) || secretWord.MatchString(err.Error()) {
			t.Fatalf("got %v, want one with %q", err, want)
		}
	}
	refuse("does not accept the user name or the password")

	var now atomic.Value
	now.Store("hunter2")
	cfg.Credentials = func(context.Context) (string, string, error) {
		if now.Load() == "" {
			return "", "", errors.New("the secret is not there")
		}
		return "", now.Load().(string), nil
	}
	if err := log.Reconfigure(cfg); err != nil {
		t.Fatal(err)
	}
	refuse("does not accept")
	now.Store("hunter1")
	again(t, log, event("a", "1"))

	// An open connection stays signed in; a new one needs the new password.
	s.SetPassword("hunter3")
	appendAll(t, log, event("a", "2"))
	now.Store("hunter3")
	do(t, s, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
	appendAll(t, log, event("a", "3"))

	now.Store("")
	do(t, s, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
	refuse("the secret is not there")

	cfg.Credentials, cfg.Password = nil, ""
	if err := log.Reconfigure(cfg); err != nil {
		t.Fatal(err)
	}
	await(t, "the reason is told", func() bool {
		_, err := log.Append(context.Background(), []broker.Op{event("a", "x")})
		return err != nil && strings.Contains(err.Error(), "wants a password")
	})
	cfg.Password = "hunter3"
	if err := log.Reconfigure(cfg); err != nil {
		t.Fatal(err)
	}
	again(t, log, event("a", "4"))
	if all := entries(t, s, entry.Live); strings.Join(texts(all), " ") != "1 2 3 4" {
		t.Errorf("entries %v", texts(all))
	}
}
