package redisadapter

import (
	"context"
	"log/slog"
	"regexp"
	"time"
)

// A loop that meets the same fault at each turn logs it once, and once more
// when it is over.

// faultLog logs one kind of fault. It is for one goroutine.
type faultLog struct {
	logger *slog.Logger
	// quiet is how long a fault must not have come again before it is over: one
	// that comes and goes, such as a full memory, is one fault.
	quiet time.Duration

	told   reasons
	began  time.Time // zero while there is no fault
	latest time.Time
}

// report logs a fault, unless one for the same reason was logged already.
func (f *faultLog) report(level slog.Level, message, reason string) {
	f.latest = time.Now()
	if f.began.IsZero() {
		f.began = f.latest
	}
	if f.told.add(reason) {
		f.logger.Log(context.Background(), level, message, slog.String("reason", reason))
	}
}

// over logs that the fault is over, if there was one.
func (f *faultLog) over(message string) {
	if f.began.IsZero() || time.Since(f.latest) < f.quiet {
		return
	}
	f.logger.Info(message, slog.Duration("after", time.Since(f.began)))
	f.told, f.began = nil, time.Time{}
}

// reasons are the reasons of a fault that were told. The zero value is ready to
// use.
type reasons map[string]struct{}

// maxReasons bounds how many reasons of one fault are told.
const maxReasons = 16

// localAddress is where the error of a connection names the client's own
// address, which has another port for each connection.
var localAddress = regexp.MustCompile(`\S+:\d+->`)

// add reports whether a reason is new and is to be told.
func (r *reasons) add(reason string) bool {
	reason = localAddress.ReplaceAllString(reason, "")
	if _, told := (*r)[reason]; told || len(*r) >= maxReasons {
		return false
	}
	if *r == nil {
		*r = reasons{}
	}
	(*r)[reason] = struct{}{}
	return true
}
