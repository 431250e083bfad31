package redisadapter

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/evstream/caddy-evstream/broker"
)

// create creates the log, if there is none.
func (l *Log) create(ctx context.Context) error {
	primary, release, err := l.primary(ctx)
	if err != nil {
		return err
	}
	defer release()
	q := request{streams: []string{live}}
	_, err = q.run(ctx, primary, &l.keys)
	return err
}

// verdict is how a log relates to what a node has applied.
type verdict uint8

const (
	fits   verdict = iota // it goes on where the node is
	missed                // it goes on, but some entries in between were trimmed
	lost                  // it has lost entries that the node has applied
)

var (
	errChainBroken = errors.New("an entry of a stream does not follow the one that was read before it")
	errOrder       = errors.New("an entry of a stream is below one that was read before it")
	errNoLog       = errors.New("there is no log in Redis")
	errReplica     = errors.New("the server is a replica, and may lack entries of the primary")
)

// locate finds the position at which the log goes on for this node. It calls
// Start where that is not simply after what was applied.
func (fo *follow) locate(ctx context.Context, w *link) (*view, error) {
	v, err := fo.look(ctx, w, fo.at.id)
	if err != nil {
		return nil, err
	}
	if err := fo.examine(ctx, w); err != nil {
		return nil, err
	}
	switch {
	case fo.of == (lineage{}):
		from := point{id: v.floor()}
		if from.id == v.last.id {
			from = v.last // with its nonce, which no later entry would tell
		}
		return v, fo.start(ctx, w, v, from, "")
	case v.of.log != fo.of.log:
		return fo.again(ctx, w, v, point{})
	}
	switch fo.judge(v) {
	case missed:
		return v, fo.start(ctx, w, v, fo.at, broker.ReasonTrimmed)
	case lost:
		common, err := fo.common(w, v)
		if err != nil {
			return nil, err
		}
		return fo.again(ctx, w, v, common)
	case fits:
		if v.of != fo.of { // it has lost its values only
			return v, fo.start(ctx, w, v, fo.at, broker.ReasonDiverged)
		}
	}
	return v, nil
}

// examine refuses a server that is a replica: what it lacks the primary may have,
// so that nothing is lost. It warns of one that evicts keys when its memory is
// full.
func (fo *follow) examine(ctx context.Context, w *link) error {
	info, err := w.conn.Info(ctx).Result()
	if _, refused := errors.AsType[redis.Error](err); refused {
		return nil // the ACL of the user denies it
	}
	if err != nil {
		return w.reason(err)
	}
	field := func(name string) string {
		_, rest, _ := strings.Cut(info, "\n"+name+":")
		value, _, _ := strings.Cut(rest, "\r")
		return value
	}
	if role := field("role"); role != "master" && role != "" {
		return errReplica
	}
	policy := field("maxmemory_policy")
	if policy != fo.policy && policy != "noeviction" && policy != "" {
		fo.log.logger.Warn("Redis may remove keys of the log when its memory is full: set maxmemory-policy to noeviction",
			slog.String("maxmemory_policy", policy))
	}
	fo.policy = policy
	return nil
}

// again starts again from the newest position that the node and the log have in
// common.
func (fo *follow) again(ctx context.Context, w *link, judged *view, common point) (*view, error) {
	v, err := fo.look(ctx, w, common.id)
	if err != nil {
		return nil, err
	}
	if v.of.log != judged.of.log {
		return nil, errAnother // which the next attempt sees
	}
	return v, fo.start(ctx, w, v, common, broker.ReasonDiverged)
}

// judge compares the log, seen from the newest entry that was applied, with what
// was applied.
//
// The next entry of each stream names its predecessor. If that is the newest
// entry that was taken from this stream, none is missing. If it is above all that
// was applied, it was trimmed before it was read. Otherwise the stream lacks the
// entry that was taken, or has one that was never taken: its history is another.
func (fo *follow) judge(v *view) verdict {
	result := fits
	if fo.at.id.After(v.last.id) || fo.at.id == v.last.id && fo.at != v.last {
		return lost
	}
	tips := make(map[string]point, len(fo.streams))
	for _, s := range fo.streams {
		tips[s.name] = s.tip
	}
	for i := range v.streams {
		s := &v.streams[i]
		tip := tips[s.name]
		delete(tips, s.name)
		switch {
		case s.before == tip:
		case s.before.id.After(fo.at.id):
			result = missed
		default:
			return lost
		}
	}
	for _, tip := range tips {
		if tip != (point{}) {
			return lost // its stream is gone
		}
	}
	return result
}

// searchPage is how many entries of a stream are compared at once.
const searchPage = 256

// common finds the newest entry that was applied and that the log has. What a
// replica lacks that has become the primary is the end of all streams together,
// so that all is common that is below the newest common entry of any stream.
// Where the log has an entry below that which was never applied, all is common
// that is below this one.
func (fo *follow) common(w *link, v *view) (point, error) {
	var best point
	var strange broker.ID // the oldest entry of the log that was never applied
	offer := func(s *viewed, m point) bool {
		has := fo.ring.has(m) || m == fo.floorOf(s.name)
		switch {
		case has && m.id.After(best.id):
			best = m
		case !has && !m.id.IsZero() && (strange.IsZero() || strange.After(m.id)):
			strange = m.id
		}
		return has
	}
	for i := range v.streams {
		s := &v.streams[i]
		if offer(s, s.before) {
			continue
		}
		for end, known := fo.at.id.String(), false; !known; {
			page, err := fo.backwards(w, s.name, end)
			if err != nil {
				return point{}, err
			}
			for i := range page {
				if known = offer(s, page[i].point) || offer(s, page[i].before); known {
					break
				}
			}
			if len(page) < searchPage {
				break
			}
			end = "(" + page[len(page)-1].id.String()
		}
	}
	if !strange.IsZero() && !strange.After(best.id) {
		best = fo.ring.below(strange)
	}
	return best, nil
}

// floorOf is the predecessor of the first entry that a stream had at the last
// Start.
func (fo *follow) floorOf(name string) point {
	for _, s := range fo.streams {
		if s.name == name {
			return s.floor
		}
	}
	return point{}
}

// backwards reads entries of a stream from end on, the newest first.
func (fo *follow) backwards(w *link, name, end string) ([]streamEntry, error) {
	w.command("XREVRANGE", fo.log.keys.stream(name), end, "-", "COUNT", strconv.Itoa(searchPage))
	if err := w.send(); err != nil {
		return nil, err
	}
	r, err := w.receive(0)
	if err != nil {
		return nil, err
	}
	return readEntries(r, nil)
}

// start tells the follower that the log goes on from a position.
func (fo *follow) start(ctx context.Context, w *link, v *view, from point, gap string) error {
	states, err := fo.states(ctx, w)
	if err != nil {
		return err
	}
	removed, forgot, err := fo.removed(ctx, w)
	if err != nil {
		return err
	}
	origin := broker.Origin{
		ID: from.id, Durable: true, Born: v.born, Mixed: v.mixed, Gap: gap,
		Lost: map[broker.Policy]broker.ID{}, States: states, Removed: removed, Forgot: forgot,
	}
	switch {
	case gap == "":
		fo.log.applied.begin(from.id)
	case fo.at.id.After(from.id):
		fo.log.applied.void(from.id)
	}
	fo.ring.cut(from.id)
	fo.of, fo.at = v.of, from
	fo.streams = fo.streams[:0]
	for i := range v.streams {
		s := &v.streams[i]
		// What is missing below the position was missing before, too.
		if s.before.id.After(from.id) || gap == "" && !s.before.id.IsZero() {
			policy, ok := policyOf(s.name)
			if !ok {
				return errStream(s.name)
			}
			origin.Lost[policy] = s.before.id
		}
		fo.streams = append(fo.streams, &streamTail{name: s.name, key: fo.log.keys.stream(s.name), floor: s.before, tip: s.before})
	}
	fo.follower.Start(origin)
	fo.apply()
	return nil
}

// policyOf is the policy of a stream; the zero Policy for "live".
func policyOf(name string) (p broker.Policy, ok bool) {
	if name == live {
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
	return p, streamOf(p) == name
}

func errStream(name string) error {
	return fmt.Errorf("the log in Redis has a stream %q, which no policy of this node's version has", name)
}
