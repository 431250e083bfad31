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

// RedisAdapter keeps the log in Redis 6.2 or newer. All nodes with the same
// server, database and prefix share one log. Caddy starts even if Redis cannot
// be reached.
type RedisAdapter struct {
	// The URL of Redis, such as "redis://10.0.0.5:6379/0"; "rediss://" is TLS,
	// "unix://" a socket. It may have a user and a password. All of it, or a
	// part, may be {env.NAME} or {file./abs/path}. Required, unless there are
	// addresses; both are an error.
	URL string `json:"url,omitempty"`

	// Addresses of Redis, as "host:port" or the path of a Unix socket: one
	// server, or some of the Sentinels or of the nodes of a Cluster. Required,
	// unless there is a url.
	Addresses []string `json:"addresses,omitempty"`

	// The user in Redis, which may be {env.NAME} or {file./abs/path}.
	// Default: Redis's default user.
	Username string `json:"username,omitempty"`
	// The user's password, which should be {env.NAME} or {file./abs/path}; unset
	// or empty is an error. A file is read again for each connection, so a new
	// password needs no reload. Default: none.
	Password string `json:"password,omitempty"`

	// The number of the database. A Cluster has only 0. Default: 0.
	DB int `json:"db,omitempty"`

	// The prefix of the names of all keys, where it stands in braces. Nodes that
	// share a log need the same prefix; anything else in the database must have
	// another. 1 to 128 letters, digits and . _ : / -. Default: "evstream:" and
	// the broker's name.
	Prefix string `json:"prefix,omitempty"`

	// The addresses are of Sentinels, which know the primary. Default: they are
	// not.
	Sentinel *RedisSentinel `json:"sentinel,omitempty"`

	// The addresses are of nodes of a Redis Cluster. All keys of a log are in one
	// slot, so on one node. Default: false.
	Cluster bool `json:"cluster,omitempty"`

	// Encrypt the connections. Default: only if the URL is rediss://.
	TLS *RedisTLS `json:"tls,omitempty"`

	// The replicas that must have an event before it is acknowledged. Default:
	// none; the primary has it.
	Wait *RedisWait `json:"wait,omitempty"`

	// The size of all events in Redis, in bytes; at least 1 MiB. Over it, the
	// oldest are removed. Default: 256 MiB.
	MaxSize Limit `json:"max_size,omitempty"`

	// How long Redis keeps an event that no history keeps, for nodes that lag; at
	// least 10s. Clients of a node that was cut off for longer get a gap.
	// Default: 1m.
	LiveAge caddy.Duration `json:"live_age,omitempty"`

	config *redisadapter.Config // set by Provision; Prefix "" is the default
}

// RedisSentinel says how to ask Sentinels for the primary.
type RedisSentinel struct {
	// The name that the Sentinels know the primary by. Required.
	Master string `json:"master"`
	// The user at the Sentinels, which may be {env.NAME} or {file./abs/path}.
	// Default: none.
	Username string `json:"username,omitempty"`
	// That user's password, which should be {env.NAME} or {file./abs/path}; unset
	// or empty is an error. Default: none.
	Password string `json:"password,omitempty"`
}

// RedisTLS says how connections are encrypted.
type RedisTLS struct {
	// PEM files of the authorities that sign the server's certificate. Default:
	// those that the system trusts.
	CA []string `json:"ca,omitempty"`
	// The PEM file of a client certificate; it needs a key. Both are read again
	// for each connection. Default: none.
	Certificate string `json:"certificate,omitempty"`
	// The PEM file of the client certificate's key. Default: none.
	Key string `json:"key,omitempty"`
	// The name that the server's certificate must have. Default: the host of
	// the address.
	ServerName string `json:"server_name,omitempty"`
}

// RedisWait says how many replicas must have an event.
type RedisWait struct {
	// How many; at least 1. If fewer have the event in time, the publisher is told
	// that the outcome is unknown; subscribers may get the event. Required.
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

// Identity implements Adapter.
func (a *RedisAdapter) Identity(name string) string {
	c := a.configOf(name)
	addresses := slices.Compact(slices.Sorted(slices.Values(c.Addresses)))
	identity, _ := json.Marshal([]any{addresses, c.Master, c.Cluster, c.DB, c.Prefix}) // these types never fail
	return string(identity)
}

// Open implements Adapter.
func (a *RedisAdapter) Open(name string, logger *slog.Logger) (broker.Log, error) {
	quietRedis()
	return redisadapter.Open(a.configOf(name), logger)
}

// quietRedis moves the messages of go-redis from the standard error to the debug
// log: it writes one for each attempt to connect. That Redis cannot be reached
// is logged once, by the log.
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

// configOf returns the configuration of a broker's log.
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
