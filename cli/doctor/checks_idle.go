package doctor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"
)

// watched is what was found on a quiet stream, and the kind of remedy that helps.
type watched struct {
	Finding
	kind string
}

// idle watches a stream on which nothing is published. It leaves the report alone:
// other checks go on meanwhile.
func (x *exam) idle(ctx context.Context) watched {
	if x.Idle <= 0 {
		return idleFinding(Skipped, "how long a quiet stream lives: --idle is 0")
	}
	// No event has this name, so that others may publish to the channel.
	r := x.stream(ctx, "event=doctor-"+random())
	defer r.stop()
	last := r.begun
	var beats []time.Duration // from one sign of life to the next
	begun := false
	for {
		a, err := r.next(time.Until(r.begun.Add(x.Idle)), anything)
		switch {
		case ctx.Err() != nil:
			return idleFinding(Skipped, "how long a quiet stream lives: interrupted")
		case err != nil:
			return judgeIdle(quietStream{begun, time.Since(r.begun), time.Since(last), beats, x.Idle}, err)
		case !a.comment && a.event.Type == "end":
			return idleFinding(Note, "the hub ended a quiet stream on purpose after %s: %s", short(a.at.Sub(r.begun)), clip(string(a.event.Data)))
		}
		// The opening is a comment and an event, and no heartbeat.
		if begun && a.at.Sub(last) > 50*time.Millisecond {
			beats = append(beats, a.at.Sub(last))
		}
		begun, last = true, a.at
	}
}

func idleFinding(level Level, saw string, args ...any) watched {
	return watched{Finding: Finding{Check: "idle", Level: level, Saw: fmt.Sprintf(saw, args...)}}
}

// quietStream is what became of a stream that was watched.
type quietStream struct {
	begun   bool // something of it came
	lived   time.Duration
	quiet   time.Duration // since the last byte
	beats   []time.Duration
	watched time.Duration // how long it was to be watched
}

// judgeIdle judges how a quiet stream ended, or with errLate that it did not.
func judgeIdle(s quietStream, err error) watched {
	const effect = "quiet streams are cut again and again: readers reconnect all the time, which costs requests and replays"
	switch {
	case errors.Is(err, errLate) && !s.begun:
		return idleFinding(Skipped, "how long a quiet stream lives: nothing of it came in %s", short(s.watched))
	case errors.Is(err, errLate) && len(s.beats) > 0:
		return idleFinding(OK, "a quiet stream lives after %s, with a heartbeat each %s", short(s.lived), short(longest(s.beats)))
	case errors.Is(err, errLate) && s.watched < time.Minute:
		return idleFinding(Note, "a quiet stream lives after %s, but no heartbeat came; --idle watches longer", short(s.lived))
	case errors.Is(err, errLate):
		w := idleFinding(Warning, "a quiet stream lives after %s, but no heartbeat came", short(s.lived))
		w.Effect = "proxies cut what is quiet for too long, most of them after 60 s, and clients that vanish are found late"
		w.Fix = []Fix{{evstream, "heartbeat 15s"}}
		return w
	}
	how := "cut"
	if errors.Is(err, io.EOF) {
		how = "ended"
	}
	w := idleFinding(Problem, "a quiet stream was %s after %s without a byte", how, short(s.quiet))
	w.kind = fixIdle
	if len(s.beats) > 0 && s.quiet < longest(s.beats)*9/10 {
		w = idleFinding(Problem, "a quiet stream was %s after %s, %s after a heartbeat: its whole time is limited", how, short(s.lived), short(s.quiet))
		w.kind = fixLifetime
	}
	w.Effect = effect
	return w
}

func longest(list []time.Duration) (most time.Duration) {
	for _, d := range list {
		most = max(most, d)
	}
	return most
}
