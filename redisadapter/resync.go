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

// create makes a log where there is none.
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

// verdict is what a log is to a node that has applied some of it.
type verdict uint8

const (
	fits   verdict = iota // it goes on from what was applied
	missed                // it does, but not at once: some of it is gone
	lost                  // it does not have what was applied
)

var (
	errChainBroken = errors.New("a stream does not go on from what was read of it")
	errOrder       = errors.New("a stream goes on below what was read of it")
	errNoLog       = errors.New("there is no log in Redis")
	errReplica     = errors.New("the server is a replica, and may lack what the primary has")
)

// locate finds out where the log goes on for this node, and says so to the
// follower where it is not simply after what was applied.
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
			from = v.last // there is nothing to read that would tell its nonce
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
		if v.of != fo.of { // only the values are gone
			return v, fo.start(ctx, w, v, fo.at, broker.ReasonDiverged)
		}
	}
	return v, nil
}

// examine refuses a server that is a replica: it may lack what the primary has,
// and nothing would be lost for that. It warns of one that removes keys when its
// memory is full.
func (fo *follow) examine(ctx context.Context, w *link) error {
	info, err := w.conn.Info(ctx).Result()
	if _, refused := errors.AsType[redis.Error](err); refused {
		return nil // the rules of access forbid to ask
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

// again starts anew from the position that the node and the log have in
// common.
func (fo *follow) again(ctx context.Context, w *link, judged *view, common point) (*view, error) {
	v, err := fo.look(ctx, w, common.id)
	if err != nil {
		return nil, err
	}
	if v.of.log != judged.of.log {
		return nil, errAnother // and once more
	}
	return v, fo.start(ctx, w, v, common, broker.ReasonDiverged)
}

// judge compares the log, seen from the position up to which it was applied,
// with what was applied.
//
// What each stream has next names the entry that it had before. If that was
// the last one that was taken from this stream, nothing is between them. If it
// is above all that was applied, it was trimmed before it was read. And if it
// is below that and another one, then the entry that was taken is not in the
// stream, or one is there that was never taken: this is another history.
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
			return lost // with its stream
		}
	}
	return result
}

// searchPage is how many entries of a stream are compared at once.
const searchPage = 256

// common finds the newest entry that was applied and that the log has. A
// replica that lags lacks the end of the one order of all streams, so that what
// is below the newest common entry of any stream is common. Where that does not
// hold, because an entry was added below others, what is common ends before it.
func (fo *follow) common(w *link, v *view) (point, error) {
	var best point
	var strange broker.ID // the oldest entry that was never applied
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

// floorOf is the entry that came before the first one of a stream that was
// there at the last Start.
func (fo *follow) floorOf(name string) point {
	for _, s := range fo.streams {
		if s.name == name {
			return s.floor
		}
	}
	return point{}
}

// backwards reads entries of a stream, the newest first.
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
		// Below the position nothing is missing that was not before.
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

// policyOf is the policy that a stream is of; the zero Policy for "live".
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
	return fmt.Errorf("the log in Redis has a stream of the name %q, which no policy of this node's version has", name)
}
