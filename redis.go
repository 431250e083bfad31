package evstream

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"sync"

	"github.com/caddyserver/caddy/v2"
	"github.com/redis/go-redis/v9"

	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/redisadapter"
)

func init() {
	caddy.RegisterModule(new(RedisAdapter))
}

// RedisAdapter keeps the log in Redis, where any number of nodes share it: all
// that are configured with the same server, database and prefix. Caddy starts
// whether or not Redis is there. Redis 6.2 or newer is needed.
type RedisAdapter struct {
	// Where Redis is, such as "redis://10.0.0.5:6379/0", or "rediss://…" for
	// TLS. A user and a password may stand before the host. All of it may be
	// {env.NAME} or {file./abs/path}, or a part. Required, or else addresses.
	URL string `json:"url,omitempty"`

	// Where Redis is, as "host:port" or the path of a Unix socket: one server,
	// or some of the Sentinels or of the nodes of a Cluster. Required, or else
	// url.
	Addresses []string `json:"addresses,omitempty"`

	// The user to sign in as, which may be {env.NAME} or {file./abs/path}.
	// Default: Redis's own default user.
	Username string `json:"username,omitempty"`
	// The user's password, which should be {env.NAME} or {file./abs/path}; unset
	// or empty is an error. A file is read again for each connection, so that a
	// new password needs no reload. Default: none.
	Password string `json:"password,omitempty"`

	// The number of the database. A Cluster has only 0. Default: 0.
	DB int `json:"db,omitempty"`

	// What the names of all keys begin with, in braces. Nodes that share a log
	// need the same; what else is in the database another one. 1 to 128 letters,
	// digits and . _ : / -. Default: "evstream:" and the broker's name.
	Prefix string `json:"prefix,omitempty"`

	// The addresses are of Sentinels, which know the primary. Default: no.
	Sentinel *RedisSentinel `json:"sentinel,omitempty"`

	// The addresses are of nodes of a Redis Cluster. All keys of a log lie on one
	// of them. Default: no.
	Cluster bool `json:"cluster,omitempty"`

	// Encrypt the connections. Default: with a URL rediss:// only.
	TLS *RedisTLS `json:"tls,omitempty"`

	// What an event waits for, beside Redis itself, before it is acknowledged.
	// Default: nothing.
	Wait *RedisWait `json:"wait,omitempty"`

	// The size of all events in Redis, in bytes; at least 1 MiB. Over it, the
	// oldest ones go. Default: 256 MiB.
	MaxSize Limit `json:"max_size,omitempty"`

	// How long Redis keeps what no history does, for nodes that lag; at least
	// 10s. A node that was cut off for longer tells its clients of a gap.
	// Default: 1m.
	LiveAge caddy.Duration `json:"live_age,omitempty"`

	config *redisadapter.Config // once it is provisioned; its Prefix may be ""
}

// RedisSentinel says how to ask Sentinels for the primary.
type RedisSentinel struct {
	// The name that the Sentinels know the primary by. Required.
	Master string `json:"master"`
	// The user to sign in as at the Sentinels, which may be {env.NAME} or
	// {file./abs/path}. Default: none.
	Username string `json:"username,omitempty"`
	// That user's password, which should be {env.NAME} or {file./abs/path}; unset
	// or empty is an error. Default: none.
	Password string `json:"password,omitempty"`
}

// RedisTLS says how connections are encrypted.
type RedisTLS struct {
	// Files of certificates, as PEM, that have signed the server's. Default:
	// those that the system trusts.
	CA []string `json:"ca,omitempty"`
	// The file of a certificate, as PEM, to show to the server. It and the key
	// are read again for each connection. Default: none.
	Certificate string `json:"certificate,omitempty"`
	// The file of that certificate's key, as PEM. Default: none.
	Key string `json:"key,omitempty"`
	// The name that the server's certificate has to have. Default: the host of
	// the address.
	ServerName string `json:"server_name,omitempty"`
}

// RedisWait says how many replicas must have an event.
type RedisWait struct {
	// How many; at least 1. Where fewer have it in time, the publisher is
	// answered that the outcome is unknown, although readers may get the event.
	Replicas int `json:"replicas"`
	// How long they may take, from 1ms to 2s. Default: 1s.
	Timeout caddy.Duration `json:"timeout,omitempty"`
}

// CaddyModule returns the Caddy module information.
func (*RedisAdapter) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "evstream.adapters.redis",
		New: func() caddy.Module { return new(RedisAdapter) },
	}
}

// Provision reads the configuration and its secrets. It does not connect.
func (a *RedisAdapter) Provision(caddy.Context) error {
	if err := a.check(); err != nil {
		return err
	}
	config, err := a.resolve()
	if err != nil {
		return err
	}
	a.config = &config
	return nil
}

// Identity implements Adapter: it is what tells one log in Redis from another.
func (a *RedisAdapter) Identity(name string) string {
	c := a.configOf(name)
	addresses := slices.Compact(slices.Sorted(slices.Values(c.Addresses)))
	identity, _ := json.Marshal([]any{addresses, c.Master, c.Cluster, c.DB, c.Prefix}) // of such it never fails
	return string(identity)
}

// Open implements Adapter.
func (a *RedisAdapter) Open(name string, logger *slog.Logger) (broker.Log, error) {
	quietRedis()
	return redisadapter.Open(a.configOf(name), logger)
}

// quietRedis puts what go-redis writes to the standard error, for each attempt
// to connect, where it can be seen by who looks for it. The log says itself
// that Redis is out of reach, once.
var quietRedis = sync.OnceFunc(func() { redis.SetLogger(redisLogger{}) })

type redisLogger struct{}

// Printf implements the interface of go-redis.
func (redisLogger) Printf(ctx context.Context, format string, v ...any) {
	logger.DebugContext(ctx, "go-redis says", slog.String("text", fmt.Sprintf(format, v...)))
}

// Reconfigure implements Reconfigurer: credentials, TLS, wait and bounds.
func (a *RedisAdapter) Reconfigure(name string, log broker.Log) error {
	return log.(*redisadapter.Log).Reconfigure(a.configOf(name))
}

// configOf is what the log of a broker is configured with.
func (a *RedisAdapter) configOf(name string) redisadapter.Config {
	c := *a.config
	if c.Prefix == "" {
		c.Prefix = "evstream:" + name
	}
	return c
}

// Interface guards
var (
	_ Adapter           = (*RedisAdapter)(nil)
	_ Reconfigurer      = (*RedisAdapter)(nil)
	_ caddy.Provisioner = (*RedisAdapter)(nil)
)
