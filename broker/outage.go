package broker

import "time"

// outage tells when a task that is repeated begins to fail and when it succeeds
// again, so that each is logged once. It is not safe for concurrent use.
type outage struct{ began time.Time } // zero while there is none

// begins reports whether err is the first failure since the last success.
func (o *outage) begins(err error) bool {
	if err == nil || !o.began.IsZero() {
		return false
	}
	o.began = time.Now()
	return true
}

// ends reports whether a success, which err is if it is nil, is the first since a
// failure, and how long the task has failed.
func (o *outage) ends(err error) (after time.Duration, ok bool) {
	if err != nil || o.began.IsZero() {
		return 0, false
	}
	after, o.began = time.Since(o.began), time.Time{}
	return after, true
}
