package entry

import (
	"strconv"
	"strings"
	"time"

	"github.com/evstream/caddy-evstream/broker"
)

// Live is the name of the stream of what no history keeps.
const Live = "live"

// StreamOf is the name of the stream that holds the events of a policy.
func StreamOf(p broker.Policy) string {
	if p.Events == 0 {
		return Live
	}
	name := strconv.AppendInt(make([]byte, 0, 48), int64(p.Events), 10)
	name = append(name, '-')
	name = strconv.AppendInt(name, int64(p.Age/time.Millisecond), 10)
	name = append(name, '-')
	return string(strconv.AppendInt(name, int64(p.Bytes), 10))
}

// PolicyOf is the policy of the stream with that name; the zero Policy for Live. It
// is the inverse of StreamOf: of any other name ok is false.
func PolicyOf(name string) (p broker.Policy, ok bool) {
	if name == Live {
		return broker.Policy{}, true
	}
	var n [3]int64
	parts := strings.Split(name, "-")
	if len(parts) != len(n) {
		return broker.Policy{}, false
	}
	for i := range n {
		var err error
		if n[i], err = strconv.ParseInt(parts[i], 10, 64); err != nil || n[i] < 0 {
			return broker.Policy{}, false
		}
	}
	p = broker.Policy{Events: int(n[0]), Age: time.Duration(n[1]) * time.Millisecond, Bytes: int(n[2])}
	return p, StreamOf(p) == name
}
