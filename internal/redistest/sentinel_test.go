package redistest

import (
	"slices"
	"testing"
)

func TestSentinelsReplaceAPrimaryThatIsKilled(t *testing.T) {
	t.Parallel()
	s := StartSentinel(t)
	client := s.Client()
	set(t, client, "a", "1")
	former := s.Master()
	awaitSynced(t, former, others(s, former))
	former.Kill()
	master := s.AwaitFailover(former)
	if master == former || !slices.Contains(s.Servers(), master) || s.Master() != master {
		t.Fatal("the primary is not another one")
	}
	eventually(t, "the client to find the new primary", func() bool {
		return client.Set(t.Context(), "b", "1", 0).Err() == nil
	})
	wantValue(t, master.Client(), "a", "1")
	wantValue(t, master.Client(), "b", "1")

	// A server that comes back becomes a replica.
	former.Restart()
	s.AwaitReady()
	awaitSynced(t, master, others(s, master))
	wantValue(t, former.Client(), "b", "1")
}

// others are all servers except this one.
func others(s *Sentinel, but *Server) []*Server {
	return slices.DeleteFunc(s.Servers(), func(server *Server) bool { return server == but })
}

func TestSentinelsReplaceAPrimaryThatIsPaused(t *testing.T) {
	t.Parallel()
	s := StartSentinel(t, Password("secret"), TLS())
	former := s.Master()
	former.Pause()
	master := s.AwaitFailover(former)
	set(t, s.Client(), "a", "1")
	wantValue(t, master.Client(), "a", "1")
}

func TestSentinelsObey(t *testing.T) {
	t.Parallel()
	s := StartSentinel(t)
	if addrs := s.SentinelAddrs(); len(addrs) != 3 || len(s.Sentinels()) != 3 || addrs[0] != s.Sentinels()[0].Addr() {
		t.Errorf("the sentinels are at %q", addrs)
	}
	// Two sentinels are enough.
	s.Sentinels()[2].Kill()
	former := s.Master()
	master := s.Failover()
	if master == former {
		t.Fatal("the primary is not another one")
	}
	set(t, s.Client(), "a", "1")
	wantValue(t, master.Client(), "a", "1")
}
