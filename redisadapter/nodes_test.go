package redisadapter

import (
	"fmt"
	"testing"
	"time"

	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/internal/redistest"
)

// policyNumber is one of many policies.
func policyNumber(n int) broker.Policy {
	return broker.Policy{Events: 100 + n, Age: time.Hour, Bytes: 1 << 20}
}

// mixed are events under several policies and none, purges and values.
func mixed(w, n int, data string) broker.Op {
	op := event(fmt.Sprint("c", w%3), data)
	op.Rules = 7
	switch n % 16 {
	case 0:
		return broker.Op{Kind: broker.KindPurge, Channel: "c0"}
	case 1:
		return set(fmt.Sprint("s", w), fmt.Sprintf("%q", data))
	case 2, 3, 4:
	default:
		op.History = policyNumber((w + n) % 3)
	}
	return op
}

// nodes opens several logs on one Redis, and follows them.
func nodes(t *testing.T, cfg Config, n int) ([]*Log, []*recorder) {
	t.Helper()
	logs, recorders := make([]*Log, n), make([]*recorder, n)
	for i := range logs {
		logs[i] = openLog(t, cfg)
		recorders[i] = record(t, logs[i])
	}
	for _, r := range recorders {
		r.waitReady()
	}
	return logs, recorders
}

func TestNodesApplyTheSameInTheSameOrder(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	logs, recorders := nodes(t, logConfig(server, t), 3)
	tr := publish(t, 8, mixed, logs...)
	tr.waitAcked(3000)
	late := record(t, openLog(t, logConfig(server, t))) // it loads while others write
	tr.waitAcked(1000)
	tr.stop()
	recorders = append(recorders, late)
	for _, r := range recorders {
		r.sync()
	}
	same(t, recorders[0], recorders[1:]...)
	if n := len(recorders[0].all()); n < 4000 {
		t.Errorf("%d entries were applied", n)
	}
	tr.nothingLost(recorders[0])
	for i, r := range recorders {
		if len(r.starts) != 1 || len(r.cuts) != 1 {
			t.Errorf("node %d: %d starts, cuts %v", i, len(r.starts), r.cuts)
		}
	}
}
