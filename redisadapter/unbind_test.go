package redisadapter

import (
	"strings"
	"testing"

	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/internal/redistest"
)

// A session of several that a value is bound to ends, on a Redis without memory, too:
// the value stays, and the key of the operation is known when it is tried again.
func TestUnbindingOneOfSeveralSessionsNeedsNoMemoryAndIsRemembered(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	log := openLog(t, logConfig(server, t))
	bind := func(value, session string) broker.Op {
		op := set("a", value)
		op.State.Session = session
		return op
	}
	appendAll(t, log, bind("1", "n.s1"), bind("1", "n.s2"), bind("1", "n.s3"))
	full(t, server)
	unbind := keyed(bind("", "n.s1"), "k")
	first := appendAll(t, log, unbind)[0]
	if first.Err != nil || first.Repeated {
		t.Fatalf("%+v", first)
	}
	again := appendAll(t, log, unbind)[0]
	if again.Err != nil || !again.Repeated || again.ID != first.ID {
		t.Errorf("again: %+v, want that of the first, %s", again, first.ID)
	}
	other := appendAll(t, log, keyed(bind("", "n.s2"), "k"))[0]
	if other.Err == nil {
		t.Errorf("another operation with the key: %+v", other)
	}
	row := server.Client().HGet(t.Context(), log.keys.state, "a").Val()
	if !strings.Contains(row, " n.s2 n.s3 ") || strings.Contains(row, "n.s1") {
		t.Errorf("the value's row is %q", row)
	}
}
