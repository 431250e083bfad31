package takeover

import (
	"net/http"
	"slices"
	"strconv"

	"github.com/evstream/caddy-evstream/access"
	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/httpapi"
	"github.com/evstream/caddy-evstream/problem"
	"github.com/evstream/caddy-evstream/runs"
	"github.com/evstream/caddy-evstream/stream"
)

// Resume serves the run of a channel: what is recorded, and then what comes, to its end.
// Status 204 says that nothing is being recorded, and nothing is kept.
func (rec *Recorder) Resume(w http.ResponseWriter, r *http.Request, channel string) error {
	if err := rec.hub.Runs().Loaded(); err != nil {
		return rec.streams.Refuse(w, err)
	}
	for {
		run := rec.hub.Runs().Get(channel)
		if run != nil && run.State != runs.Asking {
			return rec.replay(w, r, run)
		}
		who, err := rec.mayRead(rec.streams, r, channel, run)
		rec.streams.AllowOrigin(w, r)
		switch {
		case err != nil && (run != nil || who == nil || who.User == ""):
			return rec.streams.Refuse(w, err)
		case run == nil:
			return nothing(w) // also for a user whom no rule lets read: a run of their own would be theirs
		}
		if err := rec.change(r.Context(), run); err != nil {
			return err
		}
	}
}

// nothing says that there is nothing to read, which keeps an EventSource from coming back.
func nothing(w http.ResponseWriter) error {
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// mayRead returns who makes a request, if they may read the run of a channel: by the rules,
// or because the run is their own.
func (rec *Recorder) mayRead(by *httpapi.Handler, r *http.Request, channel string, run *runs.Run) (*access.Caller, error) {
	who, err := by.Caller(r)
	if err != nil {
		return nil, err
	}
	if run != nil && run.User != "" && who.User == run.User {
		return who, nil
	}
	return who, by.Require(who, access.Subscribe, channel)
}

// replay serves a run from where the client asks.
func (rec *Recorder) replay(w http.ResponseWriter, r *http.Request, run *runs.Run) error {
	rec.streams.AllowOrigin(w, r)
	who, err := rec.mayRead(rec.streams, r, run.Channel, run)
	if err != nil {
		return rec.streams.Refuse(w, err)
	}
	start, err := rec.startOf(r, run)
	if err != nil {
		return rec.streams.Refuse(w, err)
	}
	if (run.State.Ended() || rec.isOver(run)) && start.LastEventID != run.From && start.LastEventID != "" {
		if left, err := hasMore(rec.hub.Broker(), run.Channel, start); err == nil && !left {
			return nothing(w)
		}
	}
	if r.Method == http.MethodHead {
		for name, values := range run.Header {
			w.Header()[name] = slices.Clone(values)
		}
		stream.SetHeader(w.Header())
		w.WriteHeader(http.StatusOK)
		return nil
	}
	return rec.streams.Hold(w, r, &httpapi.Held{
		Caller: who, Raw: true, Whole: true, Header: run.Header,
		Subscribe: broker.SubscribeOptions{Channels: []string{run.Channel}, Start: start},
		Judge: func(next *httpapi.Handler, r *http.Request) (*access.Caller, error) {
			return rec.mayRead(next, r, run.Channel, run)
		},
	})
}

// fromStart is the cursor of clients that have nothing yet, such as LangGraph's.
const fromStart = "-1"

// startOf is where in a run a request begins: after the client's last event, else at
// startIndex or after starting_after, else at its beginning.
func (rec *Recorder) startOf(r *http.Request, run *runs.Run) (broker.Start, error) {
	cursor, err := httpapi.CursorOf(r)
	if err != nil || cursor != "" && cursor != fromStart {
		return broker.Start{LastEventID: cursor}, err
	}
	skip, given, err := skipped(r)
	if err != nil || !given || skip == 0 {
		return broker.Start{LastEventID: run.From}, err
	}
	if skip < 0 {
		start := broker.Start{Last: -skip}
		if has, err := has(rec.hub.Broker(), run.Channel, start); err != nil || has < -skip {
			return broker.Start{LastEventID: run.From}, err // all of it: if some has left, that is said
		}
		return start, nil
	}
	at, err := nth(rec.hub.Broker(), run, skip)
	return broker.Start{LastEventID: at}, err
}

// maxSkip is more than any run has.
const maxSkip = 1 << 30

// skipped is how many events of a run a request asks to leave out, below 0 how many to
// begin with from the end. startIndex=n leaves out n, starting_after=n those that are
// numbered from 0 to n.
func skipped(r *http.Request) (skip int, given bool, err error) {
	q := r.URL.Query()
	index, after := q["startIndex"], q["starting_after"]
	switch {
	case len(index)+len(after) == 0:
		return 0, false, nil
	case len(index)+len(after) > 1:
		return 0, false, problem.BadParameter.Because("startIndex and starting_after say where to begin: one of them can be given, once")
	case len(index) == 1:
		if skip, err = strconv.Atoi(index[0]); err != nil {
			return 0, false, problem.BadParameter.Because("startIndex is how many events to leave out, or, below 0, how many to begin with from the end, not %q", problem.Clip(index[0]))
		}
		return max(skip, -maxSkip), true, nil
	}
	n, err := strconv.Atoi(after[0])
	if err != nil || n < 0 {
		return 0, false, problem.BadParameter.Because("starting_after is the number of the last event that the client has, from 0, not %q", problem.Clip(after[0]))
	}
	return min(n, maxSkip) + 1, true, nil
}

// hasMore reports whether there is an event, or a gap, after a position.
func hasMore(b *broker.Broker, channel string, start broker.Start) (bool, error) {
	s, err := b.Subscribe(broker.SubscribeOptions{Channels: []string{channel}, Start: start})
	if err != nil {
		return false, err
	}
	defer s.Close()
	batch := broker.Batch{Max: 1}
	err = s.Read(&batch)
	return batch.Events > 0 || batch.Gap != nil || batch.More, err
}

// has is how many events there are from a position on.
func has(b *broker.Broker, channel string, start broker.Start) (n int, err error) {
	s, err := b.Subscribe(broker.SubscribeOptions{Channels: []string{channel}, Start: start})
	if err != nil {
		return 0, err
	}
	defer s.Close()
	batch := broker.Batch{Max: 1000}
	for {
		if err := s.Read(&batch); err != nil {
			return n, err
		}
		if n += batch.Events; !batch.More {
			return n, nil
		}
	}
}

// nth is the id after which a reader has left out n events of a run, or all that there are.
func nth(b *broker.Broker, run *runs.Run, n int) (string, error) {
	s, err := b.Subscribe(broker.SubscribeOptions{Channels: []string{run.Channel}, Start: broker.Start{LastEventID: run.From}})
	if err != nil {
		return "", err
	}
	defer s.Close()
	at := run.From
	batch := broker.Batch{Decode: true}
	for n > 0 {
		batch.Max = min(n, 1000)
		if err := s.Read(&batch); err != nil {
			return "", err
		}
		if batch.Gap != nil {
			return "", stream.ErrGap
		}
		for _, d := range batch.Deliveries {
			at = d.ID.String()
			n--
		}
		if !batch.More {
			break
		}
	}
	return at, nil
}
