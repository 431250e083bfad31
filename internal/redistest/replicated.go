package redistest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// Replicated is a primary and its replicas, without automatic failover: only
// Promote changes their roles.
type Replicated struct {
	t        testing.TB
	primary  *Server
	replicas []*Server
}

// StartReplicated runs a primary and replicas until the test ends, all with
// these options. It returns when they follow the primary.
func StartReplicated(t testing.TB, replicas int, opts ...Option) *Replicated {
	t.Helper()
	r := &Replicated{t: t, primary: Start(t, opts...)}
	follow := Config(fmt.Sprintf("replicaof 127.0.0.1 %d", r.primary.port))
	for range replicas {
		r.replicas = append(r.replicas, Start(t, append(slices.Clone(opts), follow)...))
	}
	r.AwaitSynced()
	return r
}

// Primary is the server that takes writes.
func (r *Replicated) Primary() *Server { return r.primary }

// Replicas are the others. A Promote changes their order.
func (r *Replicated) Replicas() []*Server { return slices.Clone(r.replicas) }

// Promote makes replica i the primary, which the others that run follow, the
// former primary too. One that does not run comes back as a primary, until its
// ReplicaOf is called.
func (r *Replicated) Promote(i int) *Server {
	r.t.Helper()
	r.primary, r.replicas[i] = r.replicas[i], r.primary
	r.primary.ReplicaOf(nil)
	for _, replica := range r.replicas {
		if replica.up() {
			replica.ReplicaOf(r.primary)
		}
	}
	r.AwaitSynced()
	return r.primary
}

// AwaitSynced waits until every replica that runs has all that the primary has
// now.
func (r *Replicated) AwaitSynced() {
	r.t.Helper()
	awaitSynced(r.t, r.primary, r.replicas)
}

func awaitSynced(t testing.TB, primary *Server, replicas []*Server) {
	t.Helper()
	var offset int64 // of the primary, now
	await(t, "the primary to answer", func(ctx context.Context) error {
		info, err := primary.client.Info(ctx, "replication").Result()
		offset = number(field(info, "master_repl_offset"))
		return err
	})
	for _, replica := range replicas {
		if replica.up() {
			await(t, "a replica to follow", func(ctx context.Context) error {
				return replica.follows(ctx, primary, offset)
			})
		}
	}
}

// follows reports why the replica does not follow the primary up to an offset.
func (s *Server) follows(ctx context.Context, primary *Server, offset int64) error {
	there, err := primary.client.Info(ctx, "replication").Result()
	if err != nil {
		return err
	}
	here, err := s.client.Info(ctx, "replication").Result()
	switch {
	case err != nil:
		return err
	case field(here, "role") != "slave" || field(here, "master_port") != strconv.Itoa(primary.port):
		return errors.New("it has another primary or none")
	case field(here, "master_link_status") != "up":
		return errors.New("the link is down")
	case !strings.Contains(there, fmt.Sprintf("port=%d,state=online", s.port)):
		return errors.New("it is not online")
	case number(field(here, "slave_repl_offset")) < offset:
		return errors.New("it is behind")
	}
	return nil
}
