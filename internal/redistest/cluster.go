package redistest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/redis/go-redis/v9"
)

const (
	slots       = 16384
	nodeTimeout = 1500 // ms, until a node that does not answer is replaced
)

// Cluster is a Redis cluster. A shard is a master and its replicas, whichever of
// them is the master at the moment.
type Cluster struct {
	t      testing.TB
	shards [][]*Server
	client *redis.ClusterClient
}

// StartCluster runs so many masters, which share the slots, each with so many
// replicas, until the test ends. It returns when every node reports a healthy
// cluster. Fewer than three masters cannot vote for a failover.
func StartCluster(t testing.TB, masters, replicasPer int, opts ...Option) *Cluster {
	t.Helper()
	c := &Cluster{t: t}
	opts = append([]Option{
		Config("cluster-enabled yes", fmt.Sprintf("cluster-node-timeout %d", nodeTimeout), "cluster-allow-replica-migration no"),
		func(s *settings) { s.lines = append(s.lines, fmt.Sprintf("cluster-port %d", freePort(s.t))) },
	}, opts...)
	for range masters {
		var shard []*Server
		for range 1 + replicasPer {
			shard = append(shard, Start(t, opts...))
		}
		c.shards = append(c.shards, shard)
	}
	c.join()
	c.client = redis.NewClusterClient(c.Options())
	t.Cleanup(func() { _ = c.client.Close() })
	return c
}

// join makes the nodes one cluster.
func (c *Cluster) join() {
	c.t.Helper()
	nodes := c.Nodes()
	for i, node := range nodes {
		node.do("CLUSTER", "SET-CONFIG-EPOCH", i+1)
	}
	// Each node is told of each other one: gossip would take seconds.
	for i, node := range nodes {
		for _, other := range nodes[:i] {
			node.do("CLUSTER", "MEET", "127.0.0.1", other.port, c.view(other)[0].bus)
		}
	}
	for i, shard := range c.shards {
		shard[0].do("CLUSTER", "ADDSLOTSRANGE", i*slots/len(c.shards), (i+1)*slots/len(c.shards)-1)
		id := c.id(shard[0])
		for _, replica := range shard[1:] {
			await(c.t, "a node to know its master", func(ctx context.Context) error {
				return replica.client.ClusterReplicate(ctx, id).Err()
			})
		}
	}
	c.AwaitReady()
}

// Nodes are all servers, shard by shard.
func (c *Cluster) Nodes() []*Server { return slices.Concat(c.shards...) }

// Addrs are the addresses of all servers.
func (c *Cluster) Addrs() []string {
	var addrs []string
	for _, node := range c.Nodes() {
		addrs = append(addrs, node.Addr())
	}
	return addrs
}

// Options are for another client. It retries nothing, but follows redirections of
// the cluster.
func (c *Cluster) Options() *redis.ClusterOptions {
	o := c.shards[0][0].Options()
	return &redis.ClusterOptions{
		Addrs:                    c.Addrs(),
		CredentialsProvider:      o.CredentialsProvider,
		TLSConfig:                o.TLSConfig,
		MaxRetries:               o.MaxRetries,
		DialerRetries:            o.DialerRetries,
		ReadTimeout:              o.ReadTimeout,
		ContextTimeoutEnabled:    o.ContextTimeoutEnabled,
		DisableIdentity:          o.DisableIdentity,
		MaintNotificationsConfig: o.MaintNotificationsConfig,
	}
}

// Client is a client with these options, the same at every call. It is safe
// for concurrent use, and closed when the test ends.
func (c *Cluster) Client() *redis.ClusterClient { return c.client }

// Slot is the slot of a key.
func (c *Cluster) Slot(key string) int {
	c.t.Helper()
	slot, err := c.client.ClusterKeySlot(c.t.Context(), key).Result()
	if err != nil {
		c.t.Fatalf("the slot of %q: %v", key, err)
	}
	return int(slot)
}

// Owner waits until all nodes that run agree and the cluster is healthy, and
// returns the master of a slot.
func (c *Cluster) Owner(slot int) *Server {
	c.t.Helper()
	return c.agreed()[slot]
}

// Masters are the owners of slots, as Owner says.
func (c *Cluster) Masters() []*Server {
	c.t.Helper()
	var masters []*Server
	for _, owner := range c.agreed() {
		if !slices.Contains(masters, owner) {
			masters = append(masters, owner)
		}
	}
	return masters
}

// Replicas are the other servers of a server's shard.
func (c *Cluster) Replicas(of *Server) []*Server {
	for _, shard := range c.shards {
		if slices.Contains(shard, of) {
			return slices.DeleteFunc(slices.Clone(shard), func(s *Server) bool { return s == of })
		}
	}
	return nil
}

// MigrateSlot moves a slot, and the keys in it one batch after the other, to
// another master.
func (c *Cluster) MigrateSlot(slot int, to *Server) {
	c.t.Helper()
	from := c.Owner(slot)
	if from == to {
		return
	}
	fromID, toID := c.id(from), c.id(to)
	to.do("CLUSTER", "SETSLOT", slot, "IMPORTING", fromID)
	from.do("CLUSTER", "SETSLOT", slot, "MIGRATING", toID)
	for {
		keys, err := from.client.ClusterGetKeysInSlot(c.t.Context(), slot, 100).Result()
		if err != nil {
			c.t.Fatalf("keys of slot %d: %v", slot, err)
		}
		if len(keys) == 0 {
			break
		}
		move := []any{"MIGRATE", "127.0.0.1", to.port, "", 0, patience.Milliseconds()}
		if to.password != "" {
			move = append(move, "AUTH", to.password)
		}
		move = append(move, "KEYS")
		for _, key := range keys {
			move = append(move, key)
		}
		from.do(move...)
	}
	// The new owner is told first, so that nobody is sent to it before.
	to.do("CLUSTER", "SETSLOT", slot, "NODE", toID)
	from.do("CLUSTER", "SETSLOT", slot, "NODE", toID)
	for _, master := range c.Masters() {
		if master != to && master != from {
			master.do("CLUSTER", "SETSLOT", slot, "NODE", toID)
		}
	}
	await(c.t, "the slot to have moved", func(ctx context.Context) error {
		owners, err := c.owners(ctx)
		if err == nil && owners[slot] != to {
			err = errors.New("it belongs to another")
		}
		return err
	})
}

// Failover makes a replica take the place of its master without loss, and returns
// it.
func (c *Cluster) Failover(master *Server) *Server {
	c.t.Helper()
	replicas := c.Replicas(master)
	i := slices.IndexFunc(replicas, (*Server).up)
	if i < 0 {
		c.t.Fatal("the master has no replica that runs")
	}
	replicas[i].do("CLUSTER", "FAILOVER")
	return c.AwaitFailover(master)
}

// AwaitFailover waits until all nodes that run know the server that has replaced a
// master, and returns it.
func (c *Cluster) AwaitFailover(former *Server) *Server {
	c.t.Helper()
	var successor *Server
	await(c.t, "a failover", func(ctx context.Context) error {
		owners, err := c.owners(ctx)
		if err != nil {
			return err
		}
		for _, replica := range c.Replicas(former) {
			if slices.Contains(owners, replica) {
				successor = replica
				return nil
			}
		}
		return errors.New("the former master has its slots still")
	})
	return successor
}
