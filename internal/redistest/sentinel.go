package redistest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// MasterName is the name of the primary at the sentinels.
const MasterName = "mymaster"

const (
	someSentinels = 3
	quorum        = 2
	downAfter     = time.Second
	// failoverTimeout bounds each step of a failover. A failover that has failed is
	// repeated after twice as long.
	failoverTimeout = 3 * time.Second
)

// Sentinel is a primary, two replicas and three sentinels, which replace a primary
// that does not answer for a second.
type Sentinel struct {
	t         testing.TB
	servers   []*Server
	sentinels []*Server
	client    *redis.Client
}

// StartSentinel runs them until the test ends. It returns when the sentinels know
// the servers and each other. The options are for the servers; TLS is for the
// sentinels, too.
func StartSentinel(t testing.TB, opts ...Option) *Sentinel {
	t.Helper()
	r := StartReplicated(t, 2, opts...)
	s := &Sentinel{t: t, servers: append(r.Replicas(), r.Primary())}
	watch := []Option{Config(fmt.Sprintf("sentinel monitor %s 127.0.0.1 %d %d", MasterName, r.primary.port, quorum))}
	for name, value := range map[string]any{
		"down-after-milliseconds": downAfter.Milliseconds(),
		"failover-timeout":        failoverTimeout.Milliseconds(),
		"parallel-syncs":          len(r.replicas),
	} {
		watch = append(watch, Config(fmt.Sprintf("sentinel %s %s %v", name, MasterName, value)))
	}
	if r.primary.password != "" {
		watch = append(watch, Config(fmt.Sprintf("sentinel auth-pass %s %s", MasterName, strconv.Quote(r.primary.password))))
	}
	if authority := r.primary.authority; authority != nil {
		watch = append(watch, func(s *settings) { s.trust(authority) })
	}
	for range someSentinels {
		sentinel := start(t, "redis-sentinel", watch, "--sentinel")
		// By default they ask every 10 s and publish every 2 s. A new primary, which
		// gets its first PING after a second, would be down at once.
		sentinel.do("SENTINEL", "DEBUG", "INFO-PERIOD", 1000, "PUBLISH-PERIOD", 500, "PING-PERIOD", 200)
		s.sentinels = append(s.sentinels, sentinel)
	}
	s.client = redis.NewFailoverClient(s.Options())
	t.Cleanup(func() { _ = s.client.Close() })
	s.AwaitReady()
	return s
}

// Servers are the primary and the replicas, in no order.
func (s *Sentinel) Servers() []*Server { return slices.Clone(s.servers) }

// Sentinels are the sentinels.
func (s *Sentinel) Sentinels() []*Server { return slices.Clone(s.sentinels) }

// SentinelAddrs are the addresses of the sentinels.
func (s *Sentinel) SentinelAddrs() []string {
	var addrs []string
	for _, sentinel := range s.sentinels {
		addrs = append(addrs, sentinel.Addr())
	}
	return addrs
}

// Options are for another client, which asks the sentinels for the primary. It
// retries nothing.
func (s *Sentinel) Options() *redis.FailoverOptions {
	o := s.servers[0].Options()
	return &redis.FailoverOptions{
		MasterName:            MasterName,
		SentinelAddrs:         s.SentinelAddrs(),
		CredentialsProvider:   o.CredentialsProvider,
		TLSConfig:             o.TLSConfig,
		MaxRetries:            o.MaxRetries,
		DialerRetries:         o.DialerRetries,
		ReadTimeout:           o.ReadTimeout,
		ContextTimeoutEnabled: o.ContextTimeoutEnabled,
		DisableIdentity:       o.DisableIdentity,
	}
}

// Client is a client with these options, the same at every call. It is safe
// for concurrent use, and closed when the test ends.
func (s *Sentinel) Client() *redis.Client { return s.client }

// Master waits until all sentinels that run agree on the primary, and returns it.
func (s *Sentinel) Master() *Server {
	s.t.Helper()
	var master *Server
	await(s.t, "the sentinels to agree", func(ctx context.Context) (err error) {
		master, err = s.agreed(ctx)
		return err
	})
	return master
}

// agreed asks every sentinel that runs.
func (s *Sentinel) agreed(ctx context.Context) (*Server, error) {
	var master *Server
	for _, sentinel := range s.sentinels {
		if !sentinel.up() {
			continue
		}
		where, err := sentinel.client.Do(ctx, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", MasterName).StringSlice()
		if err != nil {
			return nil, err
		}
		i := slices.IndexFunc(s.servers, func(server *Server) bool { return strconv.Itoa(server.port) == where[1] })
		if i < 0 || master != nil && master != s.servers[i] {
			return nil, errors.New("they name different ones")
		}
		master = s.servers[i]
	}
	if master == nil {
		return nil, errors.New("no sentinel runs")
	}
	return master, nil
}

// Failover tells a sentinel to replace the primary, which runs, and returns the
// new one. For some seconds, until the sentinels make it a replica, the former
// primary takes writes, which are lost.
func (s *Sentinel) Failover() *Server {
	s.t.Helper()
	former := s.Master()
	await(s.t, "a failover to begin", func(ctx context.Context) error {
		for _, sentinel := range s.sentinels {
			if sentinel.up() {
				// It refuses at the moment, or there is no good replica yet.
				return sentinel.client.Do(ctx, "SENTINEL", "FAILOVER", MasterName).Err()
			}
		}
		return errors.New("no sentinel runs")
	})
	return s.AwaitFailover(former)
}

// AwaitFailover waits until another primary takes writes and all sentinels that
// run know it, and returns it.
func (s *Sentinel) AwaitFailover(former *Server) *Server {
	s.t.Helper()
	var master *Server
	await(s.t, "a failover", func(ctx context.Context) error {
		var err error
		if master, err = s.agreed(ctx); err != nil {
			return err
		}
		if master == former || !master.up() {
			return errors.New("the sentinels name the former primary")
		}
		info, err := master.client.Info(ctx, "replication").Result()
		if err == nil && field(info, "role") != "master" {
			err = errors.New("the new primary takes no writes")
		}
		return err
	})
	return master
}

// AwaitReady waits until another failover is possible: every sentinel that runs
// knows the servers and the other sentinels, and reports the servers as healthy.
func (s *Sentinel) AwaitReady() {
	s.t.Helper()
	for _, sentinel := range s.sentinels {
		if sentinel.up() {
			await(s.t, "a sentinel to know its servers", func(ctx context.Context) error { return s.knows(ctx, sentinel) })
		}
	}
}

// knows reports why a sentinel does not know all others.
func (s *Sentinel) knows(ctx context.Context, sentinel *Server) error {
	master := redis.NewMapStringStringCmd(ctx, "SENTINEL", "MASTER", MasterName)
	if err := sentinel.client.Process(ctx, master); err != nil {
		return err
	}
	replicas := redis.NewMapStringStringSliceCmd(ctx, "SENTINEL", "REPLICAS", MasterName)
	if err := sentinel.client.Process(ctx, replicas); err != nil {
		return err
	}
	good := 0
	for _, replica := range replicas.Val() {
		if replica["flags"] == "slave" && replica["master-link-status"] == "ok" {
			good++
		}
	}
	others := master.Val()["num-other-sentinels"]
	if flags := master.Val()["flags"]; flags != "master" || good != len(s.servers)-1 || others != fmt.Sprint(len(s.sentinels)-1) {
		return fmt.Errorf("the primary is %s, %d replicas are healthy, %s other sentinels are known", strings.TrimSpace(flags), good, others)
	}
	return nil
}
