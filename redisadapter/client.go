package redisadapter

import (
	"context"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/evstream/caddy-evstream/broker"
)

// A connection on which nothing comes for that long is dead.
const (
	dialTimeout = 2 * time.Second
	readTimeout = 3 * time.Second
)

// clients holds the client for new commands, and those that Reconfigure has
// replaced while commands still used them.
type clients struct {
	mu     sync.Mutex
	now    *client
	all    map[*client]struct{}
	closed bool
}

// client is a pool of connections to the server that holds the keys.
type client struct {
	single  *redis.Client // one server, or the primary that Sentinels name
	cluster *redis.ClusterClient
	users   int
}

func newClient(cfg *Config) *client {
	o := cfg.options()
	switch {
	case cfg.Master != "":
		return &client{single: redis.NewFailoverClient(o.Failover())}
	case cfg.Cluster:
		return &client{cluster: redis.NewClusterClient(o.Cluster())}
	}
	return &client{single: redis.NewClient(o.Simple())}
}

// options are those of go-redis. They make it retry nothing: a command whose
// reply was lost may have been executed.
func (c *Config) options() *redis.UniversalOptions {
	return &redis.UniversalOptions{
		Addrs:                      c.Addresses,
		MasterName:                 c.Master,
		DB:                         c.DB,
		Protocol:                   2,
		Username:                   c.Username,
		Password:                   c.Password,
		CredentialsProviderContext: c.Credentials,
		SentinelUsername:           c.SentinelUsername,
		SentinelPassword:           c.SentinelPassword,
		TLSConfig:                  c.TLS,
		MaxRetries:                 -1,
		MaxRedirects:               -1,
		DialTimeout:                dialTimeout,
		DialerRetries:              1,
		ReadTimeout:                readTimeout,
		WriteTimeout:               readTimeout,
		PoolTimeout:                readTimeout,
		PipelinePoolSize:           -1,
		ContextTimeoutEnabled:      true,
		DisableIdentity:            true,
		MaintNotificationsConfig:   &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	}
}

func (c *client) close() {
	if c.cluster != nil {
		_ = c.cluster.Close()
		return
	}
	_ = c.single.Close()
}

// open makes a client with cfg for the next commands. Those that are under way
// finish with the client that they began with.
func (c *clients) open(cfg *Config) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return
	}
	old := c.now
	c.now = newClient(cfg)
	if c.all == nil {
		c.all = map[*client]struct{}{}
	}
	c.all[c.now] = struct{}{}
	if old != nil && old.users == 0 {
		delete(c.all, old)
		old.close()
	}
}

// use returns the client for a command. The caller must call release afterwards.
func (c *clients) use() (now *client, release func(), err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, nil, broker.ErrClosed
	}
	now = c.now
	now.users++
	return now, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if now.users--; now.users == 0 && now != c.now && !c.closed {
			delete(c.all, now)
			now.close()
		}
	}, nil
}

// close closes all connections, also those that are in use.
func (c *clients) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	for client := range c.all {
		client.close()
	}
}

// primary returns a client of the server that holds the keys. The caller must
// call release afterwards, and failed after an error of primary or of a command.
func (l *Log) primary(ctx context.Context) (primary *redis.Client, release func(), err error) {
	now, release, err := l.clients.use()
	if err != nil {
		return nil, nil, err
	}
	if now.cluster == nil {
		return now.single, release, nil
	}
	primary, err = now.cluster.MasterForKey(ctx, l.keys.meta)
	if err != nil {
		release()
		return nil, nil, err
	}
	return primary, release, nil
}

// failed makes the client look up the primary again, after a command has failed.
func (l *Log) failed() {
	now, release, err := l.clients.use()
	if err != nil {
		return
	}
	defer release()
	if now.cluster != nil {
		now.cluster.ReloadState(l.ctx)
	}
}
