package redisadapter

import (
	"context"
	"log/slog"
	"strconv"
	"time"

	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/broker/codec"
	"github.com/evstream/caddy-evstream/internal/resp"
	"github.com/evstream/caddy-evstream/redisadapter/internal/entry"
)

const (
	// tailWait is how long a read waits for entries.
	tailWait = time.Second
	// linkPatience is how long a server may take to begin an answer, and between
	// parts of one. A dead connection is noticed after this and tailWait.
	linkPatience = 2 * time.Second

	// pageBytes is how much a read is to return of one stream, approximately.
	pageBytes = 256 << 10
	minPage   = 16
	maxPage   = 1000
	// maxApply bounds how many entries are applied at once.
	maxApply = 1000
)

// streamTail is how far a stream was read and taken.
type streamTail struct {
	name, key string

	floor entry.Point // the predecessor of its first entry, at the last Start
	tip   entry.Point // the newest entry that was taken
	read  broker.ID   // the position up to which it was read

	queue []entry.Raw // read and not yet taken
	space []entry.Raw // reused: the memory of queue
	want  int         // how many entries the last read has asked for
	more  bool        // it has got as many: there may be others
	asked bool        // a read is under way
}

// lacks reports whether s must be read to know its next entry up to aim.
func (s *streamTail) lacks(aim broker.ID) bool {
	return len(s.queue) == 0 && s.more && aim.After(s.read)
}

// tail reads the streams over one connection, and applies their entries in the
// order of ids.
type tail struct {
	*follow
	link  *link
	page  int           // how many entries a read asks for
	asked []*streamTail // reads that are under way, in order
	words []string      // reused: a command
}

// run applies what the log has up to aim, calls Ready, and then applies what is
// added, until an error.
func (t *tail) run(ctx context.Context, aim entry.Point) error {
	defer t.apply()
	t.page = minPage
	for _, s := range t.streams {
		s.queue, s.space, s.asked = nil, nil, false
		s.read, s.more = t.at.ID, true
	}
	if err := t.merge(aim.ID); err != nil {
		return err
	}
	if aim.ID.After(t.at.ID) { // its entry was trimmed
		t.pass(aim)
	}
	// A node that may load the log but not read on must not seem to be ready at
	// each attempt: the first read comes before Ready.
	if err := t.next(time.Millisecond); err != nil {
		return err
	}
	t.apply()
	t.ready()
	for ctx.Err() == nil {
		if err := t.next(tailWait); err != nil {
			return err
		}
		t.pause = firstPause // the connection works
	}
	return ctx.Err()
}

// next waits for what comes after all that was taken, and takes it. What was
// taken before is applied meanwhile.
//
// A read that had to wait returns only the stream that got an entry first. So it
// serves as a signal alone, of at most one entry. The read behind it does not wait
// and is atomic: up to the newest entry that it returns there are no others,
// except in streams of which it returns as many as were asked for.
func (t *tail) next(wait time.Duration) error {
	w := t.link
	after := t.at.ID.String()
	t.read(1, wait, after)
	t.read(t.page, 0, after)
	err := w.send()
	t.apply()
	if err != nil {
		return err
	}
	signal, err := w.receive(wait)
	if err != nil {
		return err
	}
	if _, err := signal.Array(); err != nil {
		return err
	}
	r, err := w.receive(0)
	if err != nil {
		return err
	}
	n, err := r.Array()
	if err != nil {
		return err
	}
	if n == 0 {
		t.log.standing.idles()
		return nil
	}
	for _, s := range t.streams {
		s.read, s.more = t.at.ID, false
	}
	var aim broker.ID
	for range n {
		if err := r.ArrayOf(2); err != nil {
			return err
		}
		key, err := r.Bulk()
		if err != nil {
			return err
		}
		s := t.streamAt(key)
		if s == nil {
			return resp.ErrSyntax
		}
		if err := t.take(s, r); err != nil {
			return err
		}
		if s.read.After(aim) {
			aim = s.read
		}
	}
	return t.merge(aim)
}

// read adds the command that reads up to count entries of each stream, and waits
// for the first one for that long; with 0 it does not wait.
func (t *tail) read(count int, wait time.Duration, after string) {
	words := append(t.words[:0], "XREAD", "COUNT", strconv.Itoa(count))
	if wait > 0 {
		words = append(words, "BLOCK", strconv.FormatInt(wait.Milliseconds(), 10))
	}
	words = append(words, "STREAMS")
	for _, s := range t.streams {
		words = append(words, s.key)
		s.want = count
	}
	for range t.streams {
		words = append(words, after)
	}
	t.link.command(words...)
	t.words = words
}

// streamAt is the stream with that key, nil if there is none.
func (t *tail) streamAt(key string) *streamTail {
	for _, s := range t.streams {
		if s.key == key {
			return s
		}
	}
	return nil
}

// ask sends the command that reads the next page of s, up to aim.
func (t *tail) ask(s *streamTail, aim broker.ID) error {
	t.link.command("XRANGE", s.key, "("+s.read.String(), aim.String(), "COUNT", strconv.Itoa(t.page))
	s.asked, s.want = true, t.page
	t.asked = append(t.asked, s)
	return t.link.send()
}

// take adds a page to the queue of s.
func (t *tail) take(s *streamTail, r *resp.Reply) error {
	from, held := r.Offset(), len(s.queue)
	if held == 0 {
		s.queue = s.space[:0]
	}
	var err error
	if s.queue, err = entry.Read(r, s.queue); err != nil {
		return err
	}
	s.space = s.queue
	n := len(s.queue) - held
	if s.more = n >= s.want; n == 0 {
		return nil
	}
	s.read = s.queue[len(s.queue)-1].ID
	t.page = min(max(pageBytes*n/(r.Offset()-from), minPage), maxPage)
	return nil
}

// fill reads the next page of s. What was taken before is applied meanwhile.
func (t *tail) fill(s *streamTail, aim broker.ID) error {
	if !s.asked {
		if err := t.ask(s, aim); err != nil {
			return err
		}
	}
	t.apply()
	for s.asked {
		next := t.asked[0]
		r, err := t.link.receive(0)
		if err != nil {
			return err
		}
		t.asked, next.asked = t.asked[1:], false
		if err := t.take(next, r); err != nil {
			return err
		}
		if next.more && aim.After(next.read) { // the server reads it while this page is taken
			if err := t.ask(next, aim); err != nil {
				return err
			}
		}
	}
	return nil
}

// merge takes the entries of all streams up to aim, in the order of ids.
func (t *tail) merge(aim broker.ID) error {
	for {
		var first *streamTail
		var next broker.ID // the oldest entry of the other streams
		for _, s := range t.streams {
			if s.lacks(aim) {
				if err := t.fill(s, aim); err != nil {
					return err
				}
			}
			switch {
			case len(s.queue) == 0:
			case first == nil:
				first = s
			case first.queue[0].ID.After(s.queue[0].ID):
				first, next = s, first.queue[0].ID
			case next.IsZero() || next.After(s.queue[0].ID):
				next = s.queue[0].ID
			}
		}
		if first == nil {
			return nil
		}
		known := len(t.streams)
		for len(first.queue) > 0 && (next.IsZero() || !first.queue[0].ID.After(next)) {
			if err := t.taken(first); err != nil {
				return err
			}
			if len(t.streams) > known {
				break // the new stream may have older entries
			}
		}
	}
}

// taken moves the first entry of the queue of s into the batch.
func (t *tail) taken(s *streamTail) error {
	raw := &s.queue[0]
	if raw.Before != s.tip {
		return errChainBroken
	}
	s.tip = raw.Point
	switch c := raw.ID.Compare(t.at.ID); {
	case c < 0:
		return errOrder
	case c == 0 && raw.Point == t.at:
		// A purge is in every stream, and was taken from another one.
	default:
		t.pass(raw.Point)
		e := codec.Decode(raw.ID, raw.Body)
		e.Owner = raw.Owner
		if e.Kind == codec.KindStream && e.Version <= broker.EntryVersion {
			t.meet(e.Channel)
			break
		}
		t.note(&e)
		if t.batch = append(t.batch, e); len(t.batch) >= maxApply {
			t.apply()
		}
	}
	s.queue = s.queue[1:]
	return nil
}

// meet adds a stream that an entry names. It has no older entries.
func (t *tail) meet(name string) {
	for _, s := range t.streams {
		if s.name == name {
			return
		}
	}
	t.streams = append(t.streams, &streamTail{name: name, key: t.log.keys.stream(name), read: t.at.ID, more: true})
}

// note logs once for each unknown version and kind that its entries are skipped.
func (t *tail) note(e *broker.Entry) {
	known := e.Kind >= broker.KindEvent && e.Kind <= broker.KindClose
	if e.Version <= broker.EntryVersion && known {
		return
	}
	what := [2]byte{e.Version, byte(e.Kind)}
	if t.skipped[what] {
		return
	}
	t.skipped[what] = true
	t.log.logger.Warn("skipping entries that a newer node has written: this node does not know what they say",
		slog.Int("version", int(e.Version)), slog.Int("kind", int(e.Kind)))
}
