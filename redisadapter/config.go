package redisadapter

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"regexp"
	"time"
)

// Config is where the log is, and what it promises.
type Config struct {
	// Addresses are "host:port", or the path of a Unix socket: of the server,
	// of the Sentinels where Master is set, or of some nodes of the Cluster.
	Addresses []string
	// Master is the name that Sentinels know the primary by.
	Master string
	// Cluster says that the addresses are of a Redis Cluster.
	Cluster bool
	// DB is the number of the database. A Cluster has only 0.
	DB int

	// Username and Password are what the log signs in with. Without Username
	// the password is that of the user "default".
	Username, Password string
	// Credentials, if it is not nil, is asked instead, for each connection.
	Credentials func(context.Context) (username, password string, err error)
	// SentinelUsername and SentinelPassword are for the Sentinels.
	SentinelUsername, SentinelPassword string
	// TLS, if it is not nil, is what connections are encrypted with.
	TLS *tls.Config

	// Prefix is what the names of all keys begin with, in braces. Two logs in
	// one database need two prefixes.
	Prefix string

	// Wait is how many replicas must have what Append has stored before it
	// returns, and WaitTimeout how long they may take: at most 2s.
	Wait        int
	WaitTimeout time.Duration

	// MaxBytes bounds the size of all streams together, in Redis's memory. Over
	// it, the oldest entries go.
	MaxBytes int64
	// LiveAge is how long an entry is in Redis that no history keeps, for nodes
	// that lag.
	LiveAge time.Duration
}

// DefaultConfig is the configuration of a log in the Redis of this host.
func DefaultConfig() Config {
	return Config{
		Addresses:   []string{"localhost:6379"},
		Prefix:      "evstream",
		WaitTimeout: time.Second,
		MaxBytes:    256 << 20,
		LiveAge:     time.Minute,
	}
}

// maxWaitTimeout leaves a connection time to answer before it counts as dead.
const maxWaitTimeout = 2 * time.Second

var goodPrefix = regexp.MustCompile(`^[A-Za-z0-9._:/-]{1,128}$`)

// Validate reports the first impossible value.
func (c *Config) Validate() error {
	switch {
	case len(c.Addresses) == 0:
		return errors.New("a log in Redis needs an address, such as localhost:6379")
	case !goodPrefix.MatchString(c.Prefix):
		return fmt.Errorf("the prefix must be 1 to 128 letters, digits and . _ : / -, not %q", c.Prefix)
	case c.MaxBytes < 1<<20:
		return fmt.Errorf("the total size of the streams must be at least 1 MiB, not %d bytes", c.MaxBytes)
	}
	return nil
}
