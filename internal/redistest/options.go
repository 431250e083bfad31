package redistest

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
)

// Option configures a server.
type Option func(*settings)

type settings struct {
	t         testing.TB
	password  string
	authority *authority // nil without TLS
	mayFill   bool       // LimitFiles is allowed
	lines     []string   // of the configuration
}

// Password sets the password of the default user, which replicas and the clients
// of this package use.
func Password(password string) Option {
	return func(s *settings) {
		s.password = password
		s.lines = append(s.lines, "requirepass "+strconv.Quote(password), "masterauth "+strconv.Quote(password))
	}
}

// ACLUser adds a user with access rules such as "~app:*" and "+@all".
func ACLUser(name, password string, rules ...string) Option {
	return Config(fmt.Sprintf("user %s on %s %s", name, strconv.Quote(">"+password), strings.Join(rules, " ")))
}

// MaxMemory bounds the memory of the data, in bytes. Above it, the policy
// "noeviction" refuses writes and "allkeys-lru" removes keys.
func MaxMemory(bytes int64, policy string) Option {
	return Config(fmt.Sprintf("maxmemory %d", bytes), "maxmemory-policy "+policy)
}

// AppendOnly makes acknowledged writes survive Kill and Restart.
func AppendOnly() Option {
	return Config("appendonly yes", "appendfsync always")
}

// Everysec persists like AppendOnly, but flushes once a second, as most servers do:
// one that does so survives a full disk, see LimitFiles.
func Everysec() Option {
	return func(s *settings) {
		s.mayFill = true
		s.lines = append(s.lines, "appendonly yes", "appendfsync everysec", "auto-aof-rewrite-percentage 0")
	}
}

// Config adds lines to the configuration file.
func Config(lines ...string) Option {
	return func(s *settings) { s.lines = append(s.lines, lines...) }
}
