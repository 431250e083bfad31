package redisadapter

import (
	"regexp"
	"time"
)

// faultLog decides what a loop logs about a fault that it meets at each turn: its
// beginning, once for each reason, and its end. It is for one goroutine.
type faultLog struct {
	// quiet is how long a fault must not have come again before it is over: one
	// that comes and goes, such as a full memory, is one fault.
	quiet time.Duration

	told   reasons
	began  time.Time // zero while there is no fault
	latest time.Time
}

// begins notes the fault, and reports whether to log it.
func (f *faultLog) begins(reason string) bool {
	f.latest = time.Now()
	if f.began.IsZero() {
		f.began = f.latest
	}
	return f.told.add(reason)
}

// ends notes that there is no fault, and reports whether to log that one is over,
// and how long after its beginning.
func (f *faultLog) ends() (after time.Duration, over bool) {
	if f.began.IsZero() || time.Since(f.latest) < f.quiet {
		return 0, false
	}
	after = time.Since(f.began)
	f.told, f.began = nil, time.Time{}
	return after, true
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
