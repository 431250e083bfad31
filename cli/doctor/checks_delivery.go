package doctor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

const (
	pushes   = 16      // how many large events are published to see what is held back
	pushSize = 8 << 10 // of each: nginx keeps a body of that size in memory
	probes   = 3       // how many small events are timed
)

// delivery finds out whether events arrive as they are published.
func (x *exam) delivery(ctx context.Context) {
	r := x.stream(ctx, "")
	defer r.stop()
	first, err := r.next(x.Late, anything)
	x.cached(r)
	switch {
	case errors.Is(err, errLate):
		x.heldBack(ctx, r)
	case err != nil || r.resp.StatusCode != http.StatusOK:
		x.refused(r)
	default:
		x.timed(ctx, r, first.at.Sub(r.begun))
	}
}

// refused tells of a stream that ended before anything of it came.
func (x *exam) refused(r *reading) {
	if r.err != nil {
		x.found("buffering", Problem, "a stream is not answered: %s", clip(r.err.Error())).Effect = "nobody can read"
		return
	}
	if r.resp.StatusCode == http.StatusNotImplemented {
		f := x.found("buffering", Problem, "a stream is answered 501: a proxy is to buffer whole answers, and refuses those that must not be (Incremental: ?1, RFC 10036)")
		x.because(f, fixBuffering, "nobody can read")
		return
	}
	if r.resp.StatusCode != http.StatusOK {
		x.found("buffering", Problem, "a stream is answered %s, but a poll is not", r.resp.Status).Effect = "nobody can read; an EventSource does not come back"
		return
	}
	x.found("buffering", Problem, "a stream ends before anything of it comes: %s", ending(r.ended)).Effect = "readers reconnect all the time"
}

// cached tells of an answer that comes from a cache.
func (x *exam) cached(r *reading) {
	select {
	case <-r.answered:
	default:
		return
	}
	if r.err != nil {
		return
	}
	x.recognise(r.resp.Header)
	h := r.resp.Header
	for _, name := range []string{"Cf-Cache-Status", "X-Cache", "X-Cache-Status", "Age"} {
		v := strings.ToLower(h.Get(name))
		if strings.Contains(v, "hit") || name == "Age" && v != "" && v != "0" {
			f := x.found("cache", Problem, "the stream comes from a cache (%s: %s)", name, clip(h.Get(name)))
			x.because(f, fixCache, "readers get a stream of the past, or one another's")
			return
		}
	}
}

// timed times events on a stream whose beginning has come after a while.
func (x *exam) timed(ctx context.Context, r *reading, opened time.Duration) {
	x.readOpening(r)
	if !x.publish || x.split {
		f := x.found("buffering", OK, "a stream began %s after it was asked for", short(opened))
		if opened > x.Late/3 {
			f.Level, f.Effect = Warning, "readers begin late"
		}
		if x.split {
			x.found("buffering", Skipped, "how fast an event arrives: those of other nodes never do")
			return
		}
		x.found("buffering", Skipped, "how fast an event arrives: that needs a token that may publish to %s", x.channelName())
		return
	}
	var late []time.Duration
	for range probes {
		data := "evstream doctor " + random()
		sent := time.Now()
		_, took, err := x.send(ctx, []byte(data))
		if err != nil {
			x.found("buffering", Skipped, "how fast an event arrives: publishing is answered %s", clip(err.Error()))
			return
		}
		a, err := r.next(x.Late, carrying(data))
		if errors.Is(err, errLate) {
			x.heldBack(ctx, r)
			return
		}
		if err != nil {
			x.found("buffering", Problem, "the stream broke off while events were published: %s", ending(err)).Effect = "readers reconnect all the time"
			return
		}
		late = append(late, max(a.at.Sub(sent), 0))
		if a.at.Sub(sent) > took+x.Late/3 {
			f := x.found("buffering", Problem, "an event arrived %s after it was published, which took %s", short(a.at.Sub(sent)), short(took))
			x.because(f, fixBuffering, "readers get events late, and several together")
			return
		}
	}
	x.flows = true
	slices.Sort(late)
	x.found("buffering", OK, "a stream began after %s, and an event arrived %s after it was published", short(opened), short(late[len(late)/2]))
}

// readOpening reads the event evstream.open, and what it tells of the way to the hub.
func (x *exam) readOpening(r *reading) {
	if !x.hub {
		return
	}
	a, err := r.next(x.Late, named("evstream.open"))
	var open struct {
		HTTP string `json:"http"`
	}
	if err != nil || json.Unmarshal(a.event.Data, &open) != nil || open.HTTP != "1.0" {
		return
	}
	f := x.found("http", Problem, "the proxy in front of the hub asks it in HTTP/1.0")
	x.because(f, fixHTTP10, "a reader cannot tell a crash of the hub from the end of a stream, many events in one request arrive only at its end, and each request needs a connection")
}

// channelName is the channel, for people.
func (x *exam) channelName() string {
	if x.channel == "" {
		return "it"
	}
	return x.channel
}

// heldBack finds out how much has to come until a stream that shows nothing moves.
func (x *exam) heldBack(ctx context.Context, r *reading) {
	saw := fmt.Sprintf("nothing of a stream came for %s", short(x.Late))
	if x.publish {
		saw += ", nor of what was published"
		for i := 1; i <= pushes; i++ {
			if _, _, err := x.send(ctx, noise(pushSize)); err != nil {
				saw += fmt.Sprintf("; publishing more is answered %s", clip(err.Error()))
				break
			}
			if a, err := r.next(x.Late/10, anything); err == nil {
				saw = fmt.Sprintf("nothing of a stream came for %s, until %d KiB were published", short(a.at.Sub(r.begun)), i*pushSize>>10)
				x.readOpening(r)
				break
			} else if !errors.Is(err, errLate) {
				saw += fmt.Sprintf("; then it ended: %s", ending(err))
				break
			}
			if i == pushes {
				saw += fmt.Sprintf(", %d KiB", pushes*pushSize>>10)
			}
		}
	}
	x.cached(r)
	f := x.found("buffering", Problem, "%s", saw)
	x.because(f, fixBuffering, "readers get events late and in heaps, or never; heartbeats do not reach them, so that connections are cut")
}

// ending says how a body ended.
func ending(err error) string {
	switch {
	case err == nil:
		return "it is complete"
	case errors.Is(err, context.Canceled):
		return "it was left"
	case err.Error() == "EOF":
		return "properly"
	case strings.Contains(err.Error(), "unexpected EOF"):
		return "cut"
	}
	return "cut (" + clip(err.Error()) + ")"
}

// compression finds out whether a stream is compressed for who accepts it, as browsers
// do.
func (x *exam) compression(ctx context.Context) {
	r := x.stream(ctx, "", "Accept-Encoding", "gzip, deflate, br, zstd")
	defer r.stop()
	answered := r.answer(x.Late)
	if !answered && !x.flows {
		x.found("compression", Skipped, "no header of a stream came in %s: see buffering", short(x.Late))
		return
	}
	const held = "browsers accept compression, so they get events late and in heaps, or never"
	if !answered {
		saw := fmt.Sprintf("who accepts compression, as browsers do, sees nothing of a stream for %s", short(x.Late))
		for i := 1; i <= pushes && !answered; i++ {
			if _, _, err := x.send(ctx, noise(pushSize)); err != nil {
				break
			}
			answered = r.answer(x.Late / 10)
		}
		if answered {
			saw += fmt.Sprintf("; then it comes compressed (%s)", clip(r.resp.Header.Get("Content-Encoding")))
		}
		x.because(x.found("compression", Problem, "%s", saw), fixCompression, held)
		return
	}
	coding := r.resp.Header.Get("Content-Encoding")
	if coding == "" || coding == "identity" {
		x.found("compression", OK, "a stream is not compressed")
		return
	}
	saw := fmt.Sprintf("a stream is compressed (%s)", clip(coding))
	if strings.Contains(r.resp.Header.Get("Cache-Control"), "no-transform") {
		saw += ", though its header says no-transform"
	}
	if x.flows && x.heldByCompression(ctx) {
		f := x.found("compression", Problem, "%s, and an event did not arrive in %s", saw, short(x.Late))
		x.because(f, fixCompression, held)
		return
	}
	f := x.found("compression", Warning, "%s", saw)
	x.because(f, fixCompression, "each reader costs the proxy the memory of a compressor, and an event is held back wherever the compressor is not flushed")
}

// heldByCompression reports whether an event does not arrive on a compressed stream.
func (x *exam) heldByCompression(ctx context.Context) bool {
	r := x.stream(ctx, "", "Accept-Encoding", "gzip")
	defer r.stop()
	if _, err := r.next(x.Late, named("evstream.open")); err != nil {
		return errors.Is(err, errLate)
	}
	data := "evstream doctor " + random()
	if _, _, err := x.send(ctx, []byte(data)); err != nil {
		return false
	}
	_, err := r.next(x.Late, carrying(data))
	return errors.Is(err, errLate)
}

// poll is the answer to a poll.
type poll struct {
	Events []struct {
		ID   string `json:"id"`
		Data string `json:"data"`
	} `json:"events"`
	LastEventID string `json:"last_event_id"`
	Gap         *struct {
		Reason string `json:"reason"`
	} `json:"gap"`
}

// poll asks for what is after a cursor. It takes the place of a stream where the answer
// must arrive, whatever happens to streams.
func (x *exam) poll(ctx context.Context, client *http.Client, query string, header ...string) (p poll, err error) {
	req := x.request(http.MethodGet, x.at(x.channel, query), nil)
	req.Header.Set("Accept", "application/json")
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	a, err := ask(ctx, client, req, x.Timeout)
	if err != nil {
		return p, err
	}
	if a.StatusCode != http.StatusOK {
		return p, refused(a)
	}
	return p, json.Unmarshal(a.body, &p)
}

// strangeID is an id that no hub has given, after which there is a gap.
const strangeID = "1763000000000-0"

// resume finds out whether the hub gets Last-Event-ID, and whether all connections
// lead to hubs that know its ids.
func (x *exam) resume(ctx context.Context) {
	if !x.hub {
		x.found("last-event-id", Skipped, "only evstream shows whether it was understood")
		return
	}
	cursor, wanted := strangeID, ""
	if x.publish {
		before, _, err := x.send(ctx, []byte("evstream doctor"))
		data := "evstream doctor " + random()
		if err == nil {
			_, _, err = x.send(ctx, []byte(data))
		}
		if err != nil {
			x.found("last-event-id", Skipped, "publishing is answered %s", clip(err.Error()))
			return
		}
		cursor, wanted = before, data
	}
	// The hub got the cursor if it answers with what follows it, or with a gap.
	understood := func(p poll) bool {
		return p.Gap != nil || wanted != "" && slices.ContainsFunc(p.Events, func(e struct {
			ID   string `json:"id"`
			Data string `json:"data"`
		},
		) bool {
			return e.Data == wanted
		})
	}
	header, err := x.poll(ctx, x.client, "poll=1&timeout=1s", "Last-Event-ID", cursor)
	if err != nil {
		x.found("last-event-id", Skipped, "a poll is answered %s", clip(err.Error()))
		return
	}
	if understood(header) {
		x.found("last-event-id", OK, "the hub gets Last-Event-ID: %s", map[bool]string{true: "a reader that comes back goes on where it was", false: "it tells of a gap after an id that it never gave"}[x.publish])
	} else {
		query, err := x.poll(ctx, x.client, "poll=1&timeout=1s&last_event_id="+url.QueryEscape(cursor))
		switch {
		case err == nil && understood(query):
			f := x.found("last-event-id", Problem, "the header Last-Event-ID does not reach the hub; ?last_event_id= does")
			x.because(f, fixLastEventID, "a reader that reconnects misses what was published meanwhile, and nobody tells it")
		case err == nil && x.publish:
			f := x.found("last-event-id", Warning, "neither the header Last-Event-ID nor ?last_event_id= brings back what was published")
			f.Effect = "a reader that reconnects misses what was published meanwhile"
			f.Fix = append([]Fix{{evstream, "keep a history of the channel: history 1000 1h"}}, fixes(fixLastEventID, x.report.Through)...)
		default:
			x.found("last-event-id", Skipped, "the hub shows it neither for the header nor for the query")
		}
	}
	x.nodes(ctx, cursor)
}

// nodes finds out whether every connection leads to a hub that knows an id.
func (x *exam) nodes(ctx context.Context, cursor string) {
	if !x.publish {
		return
	}
	const times = 6
	strange := 0
	for range times {
		p, err := x.poll(ctx, x.fresh, "poll=1&timeout=1s&last_event_id="+url.QueryEscape(cursor))
		if err != nil {
			return
		}
		if p.Gap != nil {
			strange++
		}
	}
	if strange == 0 {
		return
	}
	x.split = true
	f := x.found("nodes", Problem, "%d of %d new connections led to a hub that does not know the id of an event that was published a moment ago", strange, times)
	x.because(f, fixNodes, "readers of one node do not get what is published to another, and get a gap when they reconnect")
}

// clean removes what was published, if that is allowed.
func (x *exam) clean(ctx context.Context) {
	if x.publish && x.Channel == "" {
		_, _ = ask(ctx, x.client, x.request(http.MethodDelete, x.at(x.channel, "history"), nil), x.Timeout)
	}
}
