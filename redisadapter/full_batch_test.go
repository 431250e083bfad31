package redisadapter

import (
	"errors"
	"strings"
	"testing"

	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/internal/redistest"
	"github.com/evstream/caddy-evstream/redisadapter/internal/entry"
)

// What frees memory is stored though what shares its batch is refused.
func TestARemovalIsStoredWhateverSharesItsBatch(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	log := openLog(t, logConfig(server, t))
	appendAll(t, log, set("a", "1"))
	appendAll(t, log, set("_fact", "1"))
	appendAll(t, log, large()) // a new stream would be let through
	full(t, server)
	batch := func(ops ...broker.Op) (batch []*pending) {
		for i := range ops {
			batch = append(batch, &pending{ops: []entry.Op{entry.NewOp(&ops[i])}, done: make(chan appendResult, 1)})
		}
		return batch
	}
	all := batch(large(), set("a", ""), set("b", "1"), set("_fact", ""), large())
	c := committer{log: log}
	c.store(all)
	for i, p := range all {
		o := <-p.done
		if removes := i == 1 || i == 3; removes && o.err != nil ||
			!removes && (!errors.Is(o.err, broker.ErrUnavailable) || !strings.HasPrefix(o.err.Error(), errMemory.Error())) {
			t.Errorf("operation %d: %v", i, o.err)
		}
	}
	if left := server.Client().HKeys(t.Context(), log.keys.value).Val(); len(left) > 0 {
		t.Errorf("the values of %q are left", left)
	}
}
