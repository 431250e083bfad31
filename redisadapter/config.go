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
// Where Redis has users, the one that a log signs in as needs no more than
// these rules, with the prefix of the log:
//
//	ACL SETUSER evstream on >PASSWORD resetchannels ~{evstream:chat}:*
//	    +eval +evalsha +multi +exec +time +ping +info +wait +select
//	    +set +unlink +pexpire +memory|usage
//	    +hget +hset +hdel +hlen +hmget +hgetall +hscan
//	    +xadd +xlen +xread +xrange +xrevrange +xtrim
//	    +zadd +zrem +zrange +zscore +zremrangebyscore +zcard +zpopmin
//	    +cluster|slots
//
// The last is for a Cluster.
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
	// Credentials, if it is not nil, is asked instead, for each connection: a
	// new password needs no Reconfigure.
	Credentials func(context.Context) (username, password string, err error)
	// SentinelUsername and SentinelPassword are for the Sentinels.
	SentinelUsername, SentinelPassword string
	// TLS, if it is not nil, is what connections are encrypted with.
	TLS *tls.Config

	// Prefix is what the names of all keys begin with, in braces: 1 to 128
	// letters, digits and . _ : / -. Two logs in one database need two prefixes.
	Prefix string

	// Wait is how many replicas must have what Append has stored before it
	// returns, and WaitTimeout how long they may take: at most 2s.
	Wait        int
	WaitTimeout time.Duration

	// MaxBytes bounds the size of all streams together, in Redis's memory; at
	// least 1 MiB. Over it, the oldest entries go.
	MaxBytes int64
	// LiveAge is how long an entry is in Redis that no history keeps, for nodes
	// that lag; at least 10s.
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

// minLiveAge lets a node be away for as long as Redis takes to fail over.
const minLiveAge = 10 * time.Second

var goodPrefix = regexp.MustCompile(`^[A-Za-z0-9._:/-]{1,128}$`)

// Validate reports the first impossible value. What is wrong with an address it
// does not repeat, because a password may have got into it.
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

// sameLog reports whether c and other are of one log.
func (c *Config) sameLog(other *Config) bool {
	a, b := slices.Sorted(slices.Values(c.Addresses)), slices.Sorted(slices.Values(other.Addresses))
	return slices.Equal(slices.Compact(a), slices.Compact(b)) &&
		c.Master == other.Master && c.Cluster == other.Cluster && c.DB == other.DB && c.Prefix == other.Prefix
}
