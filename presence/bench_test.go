package presence

import (
	"context"
	"fmt"
	"testing"
	"time"
)

// BenchmarkMembersComeAndGo has members join at one of three nodes and leave it. It
// reports the time for each member, and what the node tells the others of one.
func BenchmarkMembersComeAndGo(b *testing.B) {
	for _, members := range []int{100, 10_000} {
		b.Run(fmt.Sprint("members=", members), func(b *testing.B) {
			var told, notices int
			var nodes []*Table
			rules, err := NewRules([]Rule{{"**", &Policy{Grace: time.Millisecond}}})
			if err != nil {
				b.Fatal(err)
			}
			for i := range 3 {
				table := New(Config{
					Node: fmt.Sprint("node", i), MaxNotice: 64 << 10,
					Tell: func(context.Context, []byte) error { return nil }, Ready: func() bool { return true },
					Members: func() ([]string, bool) { return nil, false },
				})
				table.rules.Store(rules) // without a loop: the benchmark takes its steps
				nodes = append(nodes, table)
			}
			defer func() {
				for _, n := range nodes {
					n.Close(context.Background())
				}
			}()
			share := func() {
				nodes[0].mu.Lock()
				list := nodes[0].messages(nil)
				nodes[0].mu.Unlock()
				for _, m := range list {
					told += len(m)
					notices++
					for _, n := range nodes[1:] {
						n.Hear(m)
					}
				}
			}
			sessions := make([]*Session, members)
			b.ReportAllocs()
			for b.Loop() {
				for i := range sessions {
					sessions[i] = &Session{User: fmt.Sprint("user-", i)}
					nodes[0].Join(sessions[i], "a", false)
				}
				share()
				if n := nodes[2].Members("a", "", 1).Count; n != members {
					b.Fatalf("%d members are known", n)
				}
				for _, s := range sessions {
					nodes[0].LeaveAll(s, -1)
				}
				share()
				if n := nodes[2].Members("a", "", 1).Count; n != 0 {
					b.Fatalf("%d members are left", n)
				}
			}
			per := float64(b.N) * float64(members)
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/per, "ns/member")
			b.ReportMetric(float64(told)/per, "told-B/member")
			b.ReportMetric(float64(notices)/float64(b.N), "notices/op")
		})
	}
}
