package redisadapter

import (
	"context"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/evstream/caddy-evstream/broker"
)

// A connection that says nothing for so long is dead.
const (
	dialTimeout = 2 * time.Second
	readTimeout = 3 * time.Second
)

// clients has the client that is in use, and those that were replaced while
// somebody still used them.
type clients struct {
	mu     sync.Mutex
	now    *client
	all    map[*client]struct{}
	closed bool
}

// client is a pool of connections to the server that the keys lie on.
type client struct {
	single  *redis.Client // of one server, or of what Sentinels name
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

// options are those of go-redis. It repeats nothing by itself: a command whose
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

// open makes cfg what the next commands go by. Those that are on their way end
// as they began.
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

// use is the client now. Who has it calls release when it is done.
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

// close ends all connections, also those that are in use.
func (c *clients) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	for client := range c.all {
		client.close()
	}
}

// primary is a client of the server that the keys lie on. Who has it calls
// release when done. After an error, of this or of a command, failed finds out
// where the keys are now.
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

// failed looks where the primary is, after a command has failed.
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
