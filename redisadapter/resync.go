package redisadapter

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/redisadapter/internal/entry"
)

// create creates the log, if there is none.
func (l *Log) create(ctx context.Context) error {
	primary, release, err := l.primary(ctx)
	if err != nil {
		return err
	}
	defer release()
	q := request{streams: []string{entry.Live}}
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
	v, err := fo.look(ctx, w, fo.at.ID)
	if err != nil {
		return nil, err
	}
	if err := fo.examine(ctx, w); err != nil {
		return nil, err
	}
	switch {
	case fo.of == (lineage{}):
		from := entry.Point{ID: v.floor()}
		if from.ID == v.last.ID {
			from = v.last // with its nonce, which no later entry would tell
		}
		return v, fo.start(ctx, w, v, from, "")
	case v.of.log != fo.of.log:
		return fo.again(ctx, w, v, entry.Point{})
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
// full, and of one that has less of it than the log may take.
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
	memory, _ := strconv.ParseInt(field("maxmemory"), 10, 64)
	if most := fo.log.cfg().MaxBytes; memory != fo.memory && memory > 0 && memory < most {
		fo.log.logger.Warn("Redis has less memory than the log may take: it refuses events before max_size trims any",
			slog.Int64("maxmemory", memory), slog.Int64("max_size", most))
	}
	fo.memory = memory
	return nil
}

// again starts again from the newest position that the node and the log have in
// common.
func (fo *follow) again(ctx context.Context, w *link, judged *view, common entry.Point) (*view, error) {
	v, err := fo.look(ctx, w, common.ID)
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
	if fo.at.ID.After(v.last.ID) || fo.at.ID == v.last.ID && fo.at != v.last {
		return lost
	}
	tips := make(map[string]entry.Point, len(fo.streams))
	for _, s := range fo.streams {
		tips[s.name] = s.tip
	}
	for i := range v.streams {
		s := &v.streams[i]
		tip := tips[s.name]
		delete(tips, s.name)
		switch {
		case s.before == tip:
		case s.before.ID.After(fo.at.ID):
			result = missed
		default:
			return lost
		}
	}
	for _, tip := range tips {
		if tip != (entry.Point{}) {
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
func (fo *follow) common(w *link, v *view) (entry.Point, error) {
	var best entry.Point
	var strange broker.ID // the oldest entry of the log that was never applied
	offer := func(s *viewed, m entry.Point) bool {
		has := fo.ring.Has(m) || m == fo.floorOf(s.name)
		switch {
		case has && m.ID.After(best.ID):
			best = m
		case !has && !m.ID.IsZero() && (strange.IsZero() || strange.After(m.ID)):
			strange = m.ID
		}
		return has
	}
	for i := range v.streams {
		s := &v.streams[i]
		if offer(s, s.before) {
			continue
		}
		for end, known := fo.at.ID.String(), false; !known; {
			page, err := fo.backwards(w, s.name, end)
			if err != nil {
				return entry.Point{}, err
			}
			for i := range page {
				if known = offer(s, page[i].Point) || offer(s, page[i].Before); known {
					break
				}
			}
			if len(page) < searchPage {
				break
			}
			end = "(" + page[len(page)-1].ID.String()
		}
	}
	if !strange.IsZero() && !strange.After(best.ID) {
		best = fo.ring.Below(strange)
	}
	return best, nil
}

// floorOf is the predecessor of the first entry that a stream had at the last
// Start.
func (fo *follow) floorOf(name string) entry.Point {
	for _, s := range fo.streams {
		if s.name == name {
			return s.floor
		}
	}
	return entry.Point{}
}

// backwards reads entries of a stream from end on, the newest first.
func (fo *follow) backwards(w *link, name, end string) ([]entry.Raw, error) {
	w.command("XREVRANGE", fo.log.keys.stream(name), end, "-", "COUNT", strconv.Itoa(searchPage))
	if err := w.send(); err != nil {
		return nil, err
	}
	r, err := w.receive(0)
	if err != nil {
		return nil, err
	}
	return entry.Read(r, nil)
}

// start tells the follower that the log goes on from a position.
func (fo *follow) start(ctx context.Context, w *link, v *view, from entry.Point, gap string) error {
	states, err := fo.states(ctx, w)
	if err != nil {
		return err
	}
	removed, forgot, err := fo.removed(ctx, w)
	if err != nil {
		return err
	}
	closed, err := fo.closed(ctx, w)
	if err != nil {
		return err
	}
	origin := broker.Origin{
		ID: from.ID, Durable: true, Born: v.born, Mixed: v.mixed, Gap: gap,
		Lost: map[broker.Policy]broker.ID{}, States: states, Removed: removed, Forgot: forgot, Closed: closed,
	}
	switch {
	case gap == "":
		fo.log.applied.begin(from.ID)
	case fo.at.ID.After(from.ID):
		fo.log.applied.void(from.ID)
	}
	fo.ring.Cut(from.ID)
	fo.of, fo.at = v.of, from
	fo.streams = fo.streams[:0]
	for i := range v.streams {
		s := &v.streams[i]
		// What is missing below the position was missing before, too.
		if s.before.ID.After(from.ID) || gap == "" && !s.before.ID.IsZero() {
			policy, ok := entry.PolicyOf(s.name)
			if !ok {
				return errStream(s.name)
			}
			origin.Lost[policy] = s.before.ID
		}
		fo.streams = append(fo.streams, &streamTail{name: s.name, key: fo.log.keys.stream(s.name), floor: s.before, tip: s.before})
	}
	fo.follower.Start(origin)
	fo.apply()
	return nil
}

func errStream(name string) error {
	return fmt.Errorf("the log in Redis has a stream %q, which no policy of this node's version has", name)
}
