package redisadapter

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Config is where the log is, and what it promises.
//
// Where Redis has ACL users, that of a log needs no more than these rules, with
// the prefix of the log:
//
//	ACL SETUSER evstream on >PASSWORD resetchannels ~{evstream:chat}:*
//	    +eval +evalsha +multi +exec +time +ping +info +wait +select
//	    +set +unlink +pexpire +memory|usage
//	    +hget +hset +hdel +hlen +hmget +hgetall +hscan
//	    +xadd +xlen +xread +xrange +xrevrange +xtrim
//	    +zadd +zrem +zrange +zscore +zremrangebyscore +zcard +zpopmin
//	    +cluster|slots
//
// The last one is for a Cluster.
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

	// Username and Password are what the log signs in with. Without a Username
	// it is the user "default".
	Username, Password string
	// Credentials, if it is not nil, is called instead, for each connection, so
	// that a new password needs no Reconfigure. It must be safe for concurrent
	// use.
	Credentials func(context.Context) (username, password string, err error)
	// SentinelUsername and SentinelPassword are what it signs in to Sentinels
	// with.
	SentinelUsername, SentinelPassword string
	// TLS, if it is not nil, encrypts all connections.
	TLS *tls.Config

	// Prefix is what the names of all keys begin with, in braces: 1 to 128
	// letters, digits and . _ : / -. Each log in a database needs its own.
	Prefix string

	// Wait is how many replicas must have acknowledged what Append has stored
	// before it returns. WaitTimeout is how long they may take: at most 2s.
	Wait        int
	WaitTimeout time.Duration

	// MaxBytes bounds the memory that all streams take in Redis; at least 1 MiB.
	// Above it the oldest entries are trimmed.
	MaxBytes int64
	// LiveAge is how long Redis keeps an entry that no history keeps, for nodes
	// that lag; at least 10s.
	LiveAge time.Duration
}

// DefaultConfig is the configuration of a log in a Redis at localhost:6379.
func DefaultConfig() Config {
	return Config{
		Addresses:   []string{"localhost:6379"},
		Prefix:      "evstream",
		WaitTimeout: time.Second,
		MaxBytes:    256 << 20,
		LiveAge:     time.Minute,
	}
}

// maxWaitTimeout is below readTimeout: a server that waits for its replicas must
// not look dead.
const maxWaitTimeout = 2 * time.Second

// minLiveAge is longer than a failover of Redis takes, during which a node reads
// nothing.
const minLiveAge = 10 * time.Second

var goodPrefix = regexp.MustCompile(`^[A-Za-z0-9._:/-]{1,128}$`)

// Validate reports the first invalid value. It does not quote addresses, which
// may contain a password by mistake.
func (c *Config) Validate() error {
	switch {
	case len(c.Addresses) == 0:
		return errors.New("a log in Redis needs an address, such as localhost:6379")
	case c.Cluster && c.Master != "":
		return errors.New("a log is in a Cluster or behind Sentinels, not both")
	case len(c.Addresses) > 1 && !c.Cluster && c.Master == "":
		return fmt.Errorf("there are %d addresses, which is for a Cluster or Sentinels: one server has one address", len(c.Addresses))
	case c.DB < 0:
		return fmt.Errorf("the number of the database must be 0 or more, not %d", c.DB)
	case c.DB != 0 && c.Cluster:
		return fmt.Errorf("a Cluster has only database 0, not %d", c.DB)
	case !goodPrefix.MatchString(c.Prefix):
		return fmt.Errorf("the prefix must be 1 to 128 letters, digits and . _ : / -, not %q", c.Prefix)
	case c.Wait < 0:
		return fmt.Errorf("the number of replicas to wait for must be 0 or more, not %d", c.Wait)
	case c.Wait > 0 && (c.WaitTimeout < time.Millisecond || c.WaitTimeout > maxWaitTimeout):
		return fmt.Errorf("the time to wait for replicas must be 1ms to %s, not %s", maxWaitTimeout, c.WaitTimeout)
	case c.MaxBytes < 1<<20:
		return fmt.Errorf("the total size of the streams must be at least 1 MiB, not %d bytes", c.MaxBytes)
	case c.LiveAge < minLiveAge:
		return fmt.Errorf("what no history keeps must be in Redis for at least %s, not %s", minLiveAge, c.LiveAge)
	}
	for i, address := range c.Addresses {
		if !c.goodAddress(address) {
			return fmt.Errorf("address %d must be a host and a port, such as localhost:6379, or the path of a Unix socket of one server", i+1)
		}
	}
	return nil
}

func (c *Config) goodAddress(s string) bool {
	if strings.HasPrefix(s, "/") {
		return !c.Cluster && c.Master == ""
	}
	host, port, err := net.SplitHostPort(s)
	n, bad := strconv.ParseUint(port, 10, 16)
	return err == nil && bad == nil && n > 0 && host != "" && !strings.ContainsAny(host, "/@ ")
}

// sameLog reports whether c and other name the same log.
func (c *Config) sameLog(other *Config) bool {
	a, b := slices.Sorted(slices.Values(c.Addresses)), slices.Sorted(slices.Values(other.Addresses))
	return slices.Equal(slices.Compact(a), slices.Compact(b)) &&
		c.Master == other.Master && c.Cluster == other.Cluster && c.DB == other.DB && c.Prefix == other.Prefix
}
