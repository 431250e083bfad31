package e2e

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/evstream/caddy-evstream/broker"
)

// What Redis has. The streams are read as the documentation of redisadapter
// describes them, without any of its code.

// entry is an event in Redis.
type entry struct {
	id      broker.ID
	channel string
	number  int64 // at the beginning of the data
	sum     uint64
	gone    bool // Redis has lost it
}

func (e entry) String() string { return fmt.Sprintf("%s %d in %s", e.id, e.number, e.channel) }

// truth is all events in Redis, in order.
type truth []entry

// of returns the entries of channels, or of patterns that end in *.
func (t truth) of(names ...string) (some truth) {
	for _, e := range t {
		if slices.ContainsFunc(names, func(name string) bool {
			before, pattern := strings.CutSuffix(name, "*")
			return e.channel == name || pattern && strings.HasPrefix(e.channel, before)
		}) {
			some = append(some, e)
		}
	}
	return some
}

const redisPage = 5000

// truth reads all events above a position.
func (c *cluster) truth(t testing.TB, above broker.ID) truth {
	t.Helper()
	names, err := c.redis.HKeys(t.Context(), "{"+prefix+"}:meta").Result()
	if err != nil {
		t.Fatal(err)
	}
	var all truth
	for _, name := range names {
		name, is := strings.CutPrefix(name, "s:")
		if !is {
			continue
		}
		some, err := c.stream(t, name, above)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, some...)
	}
	slices.SortFunc(all, func(a, b entry) int { return a.id.Compare(b.id) })
	return all
}

func streamKey(name string) string { return "{" + prefix + "}:s:" + name }

// stream reads one of the streams.
func (c *cluster) stream(t testing.TB, name string, above broker.ID) (some truth, err error) {
	for from := above.String(); ; {
		page, err := c.redis.XRangeN(t.Context(), streamKey(name), "("+from, "+", redisPage).Result()
		if err != nil {
			return nil, err
		}
		if err := some.take(page); err != nil {
			return nil, err
		}
		if len(page) < redisPage {
			return some, nil
		}
		from = page[len(page)-1].ID
	}
}

// take adds the events among the entries of a stream.
func (t *truth) take(page []redis.XMessage) error {
	for _, m := range page {
		e, _ := m.Values["e"].(string)
		id, ok := broker.ParseID(m.ID)
		if !ok || len(e) < 2 {
			return fmt.Errorf("entry %s has no %q", m.ID, "e")
		}
		if kind := e[1]; kind != 1 {
			continue
		}
		channel, data, err := takeApart(e)
		if err != nil {
			return fmt.Errorf("entry %s: %w", m.ID, err)
		}
		first, _, _ := strings.Cut(data, " ")
		number, err := strconv.ParseInt(first, 10, 64)
		if err != nil || data != text(number, channel) {
			return fmt.Errorf("entry %s of %s is %q, which nobody has published", m.ID, channel, data)
		}
		*t = append(*t, entry{id: id, channel: channel, number: number, sum: digest([]byte(data))})
	}
	return nil
}

// takeApart reads an event that has nothing but data: a byte of version, a byte
// of kind, the length of the channel's name, the name, flags, and the data.
func takeApart(text string) (channel, data string, err error) {
	n, size := binary.Uvarint([]byte(text[2:min(len(text), 12)]))
	rest := text[2+max(size, 0):]
	if text[0] != 1 || size <= 0 || uint64(len(rest)) <= n || rest[n] != 0 {
		return "", "", fmt.Errorf("it is %q", text)
	}
	return rest[:n], rest[n+1:], nil
}

// verdict sums up the records of a subscriber.
type verdict struct {
	gaps     map[string]int // by reason
	void     int            // events that Redis lost after they came
	silent   int            // events that Redis lost before they came, with no gap behind them
	repeated int            // events that came again after a gap
}

// judge compares the records of a subscriber with what Redis has of its channels
// above a position. Every event must have come, in order and once. An event that
// Redis has lost may have come, but then a gap must follow; judge counts those that
// have not come. After a gap, the events may begin anywhere before the missed ones.
func judge(got []record, want truth, above broker.ID) (v verdict, err error) {
	v.gaps = map[string]int{}
	next, most := 0, 0 // the place in want: after what came last, and after all that came
	anew := false      // nothing came since the last gap
	void := ""         // what came since it, and Redis does not have
	skip := func(to int) error {
		i := slices.IndexFunc(want[most:max(most, to)], func(e entry) bool { return !e.gone })
		switch {
		case i >= 0:
			return fmt.Errorf("%s is missing, the first of %d", want[most+i], to-most)
		case to > most && !anew:
			v.silent += to - most
		}
		return nil
	}
	for i, r := range got {
		if r.gap != "" {
			v.gaps[r.gap]++
			anew, void, v.silent = true, "", 0
			continue
		}
		at, has := slices.BinarySearchFunc(want, r.id, func(e entry, id broker.ID) int { return e.id.Compare(id) })
		switch {
		case !has && anew && !r.id.After(above):
			v.repeated++ // it was checked before
			continue
		case !has:
			v.void++
			void = r.id.String() + " came, and Redis does not have it"
			continue
		case void != "":
			return v, fmt.Errorf("record %d, %s: there was no gap although %s", i, want[at], void)
		case want[at].sum != r.sum:
			return v, fmt.Errorf("record %d, %s: has other data", i, want[at])
		case at < next && !anew:
			return v, fmt.Errorf("record %d, %s: came twice, or late", i, want[at])
		case next < most && at > next && !anew:
			return v, fmt.Errorf("record %d, %s: came after %s, and not what is between", i, want[at], want[next-1])
		case at < most:
			v.repeated++
		default:
			err = skip(at)
		}
		if err != nil {
			return v, fmt.Errorf("record %d, %s: %w", i, want[at], err)
		}
		next, anew = at+1, false
		most = max(most, next)
	}
	if err := skip(len(want)); err != nil {
		return v, fmt.Errorf("at the end: %w", err)
	}
	if void != "" {
		return v, fmt.Errorf("there was no gap although %s", void)
	}
	return v, nil
}

// byNumber are the events by their numbers, each of which was published once.
func (t truth) byNumber() (all map[int64]entry, err error) {
	all = make(map[int64]entry, len(t))
	for _, e := range t {
		if other, twice := all[e.number]; twice {
			err = fmt.Errorf("%s is in Redis twice: %s", e, other)
		}
		all[e.number] = e
	}
	return all, err
}

// merge adds what Redis had once to what it has.
func (t truth) merge(old truth) truth {
	all := slices.Clone(t)
	for _, e := range old {
		if !slices.ContainsFunc(t, func(has entry) bool { return has.id == e.id }) {
			e.gone = true
			all = append(all, e)
		}
	}
	slices.SortFunc(all, func(a, b entry) int { return a.id.Compare(b.id) })
	return all
}
