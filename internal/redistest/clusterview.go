package redistest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// member is what a node reports about a node.
type member struct {
	id     string
	port   int
	bus    int // port, too
	flags  []string
	linked bool
	slots  [][2]int // first and last
}

// members reads what CLUSTER NODES answers. The node that answers comes first.
func members(answer string) ([]member, error) {
	var list []member
	for line := range strings.Lines(answer) {
		// id ip:port@bus[,name] flags master ping pong epoch link slots...
		words := strings.Fields(line)
		if len(words) < 8 {
			return nil, fmt.Errorf("CLUSTER NODES says %q", line)
		}
		m := member{id: words[0], flags: strings.Split(words[2], ","), linked: words[7] == "connected"}
		where, _, _ := strings.Cut(words[1], ",")
		where = where[strings.LastIndex(where, ":")+1:]
		port, bus, _ := strings.Cut(where, "@")
		m.port, m.bus = int(number(port)), int(number(bus))
		for _, word := range words[8:] {
			if strings.HasPrefix(word, "[") {
				continue // on its way
			}
			first, last, several := strings.Cut(word, "-")
			if !several {
				last = first
			}
			m.slots = append(m.slots, [2]int{int(number(first)), int(number(last))})
		}
		if slices.Contains(m.flags, "myself") {
			list = slices.Insert(list, 0, m)
		} else {
			list = append(list, m)
		}
	}
	return list, nil
}

// view is what a node reports about all that it knows, itself first.
func (c *Cluster) view(node *Server) []member {
	c.t.Helper()
	var list []member
	await(c.t, "a node to say whom it knows", func(ctx context.Context) (err error) {
		list, err = node.members(ctx)
		return err
	})
	return list
}

func (s *Server) members(ctx context.Context) ([]member, error) {
	answer, err := s.client.ClusterNodes(ctx).Result()
	if err != nil {
		return nil, err
	}
	return members(answer)
}

func (c *Cluster) id(node *Server) string {
	c.t.Helper()
	return c.view(node)[0].id
}

// agreed waits until all nodes that run agree on the owners of the slots, and
// returns these.
func (c *Cluster) agreed() []*Server {
	c.t.Helper()
	var owners []*Server
	await(c.t, "the nodes to agree", func(ctx context.Context) (err error) {
		owners, err = c.owners(ctx)
		return err
	})
	return owners
}

// owners asks all nodes that run for the owners of the slots. It is an error if
// they disagree or the cluster is not healthy.
func (c *Cluster) owners(ctx context.Context) ([]*Server, error) {
	var all []*Server
	for _, node := range c.Nodes() {
		if !node.up() {
			continue
		}
		info, err := node.client.ClusterInfo(ctx).Result()
		if err != nil {
			return nil, err
		}
		if state := field(info, "cluster_state"); state != "ok" {
			return nil, errors.New("the state of the cluster is " + strconv.Quote(state))
		}
		list, err := node.members(ctx)
		if err != nil {
			return nil, err
		}
		owners, err := c.told(list)
		if err != nil {
			return nil, err
		}
		if all != nil && !slices.Equal(all, owners) {
			return nil, errors.New("they do not say the same")
		}
		all = owners
	}
	if all == nil {
		return nil, errors.New("no node runs")
	}
	return all, nil
}

// told returns the owners of the slots according to one node.
func (c *Cluster) told(list []member) ([]*Server, error) {
	owners := make([]*Server, slots)
	nodes := c.Nodes()
	for _, m := range list {
		i := slices.IndexFunc(nodes, func(node *Server) bool { return node.port == m.port })
		if i < 0 {
			return nil, fmt.Errorf("a node at port %d is among them, which is not of this cluster", m.port)
		}
		for _, some := range m.slots {
			for slot := some[0]; slot <= some[1]; slot++ {
				owners[slot] = nodes[i]
			}
		}
	}
	if i := slices.Index(owners, nil); i >= 0 {
		return nil, fmt.Errorf("slot %d has no owner", i)
	}
	return owners, nil
}

// AwaitReady waits until a failover is possible: the nodes that run agree on the
// owners of the slots and are connected to each other, and the replicas have what
// their masters have.
func (c *Cluster) AwaitReady() {
	c.t.Helper()
	owners := c.agreed()
	for _, node := range c.Nodes() {
		if node.up() {
			await(c.t, "a node to know the others", func(ctx context.Context) error { return c.knows(ctx, node) })
		}
	}
	for _, shard := range c.shards {
		i := slices.IndexFunc(shard, func(node *Server) bool { return slices.Contains(owners, node) })
		if i >= 0 && shard[i].up() {
			awaitSynced(c.t, shard[i], c.Replicas(shard[i]))
		}
	}
}

// knows reports why a node does not know all others that run.
func (c *Cluster) knows(ctx context.Context, node *Server) error {
	list, err := node.members(ctx)
	if err != nil {
		return err
	}
	for _, other := range c.Nodes() {
		i := slices.IndexFunc(list, func(m member) bool { return m.port == other.port })
		if i < 0 {
			return fmt.Errorf("it does not know the node at port %d", other.port)
		}
		odd := slices.ContainsFunc(list[i].flags, func(flag string) bool {
			return flag != "myself" && flag != "master" && flag != "slave"
		})
		if other.up() && (odd || !list[i].linked) {
			return fmt.Errorf("it reports the node at port %d as %v, connected: %t", other.port, list[i].flags, list[i].linked)
		}
	}
	return nil
}
