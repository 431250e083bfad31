package grip

import (
	"fmt"
	"maps"
	"mime"
	"net/http"
	"slices"

	"github.com/evstream/caddy-evstream/takeover/internal/answers"
)

// maxAnswer bounds what an application answers to one request and what is held or read
// here: it waits in memory until it is known to be whole.
const maxAnswer = 1 << 20

var errTooLong = fmt.Errorf("its body has more than %d bytes: let %s lead to the rest", maxAnswer, headerLink)

// instructing is an application that answers the request of a client.
type instructing struct {
	method   string
	buffers  bool      // the method of the request can have a stream
	instruct *Instruct // nil if there are none
	status   int       // of the answer, or of its instructions
}

// decide is the Decide of an answers.Dialect. An answer without instructions passes, and so
// does one that only has others than to hold it or to go on.
func (a *instructing) decide(status int, h http.Header) (passes int, holds bool, err error) {
	media, _, _ := mime.ParseMediaType(h.Get("Content-Type"))
	if media == "application/grip-instruct" {
		return status, false, fmt.Errorf("its Content-Type is %s, which is not done here: the instructions must be headers", media)
	}
	if !fields.In(h) {
		return status, false, nil
	}
	i, err := ReadInstruct(h)
	if err != nil {
		return status, false, err
	}
	if i.Status != 0 {
		status = i.Status
	}
	a.instruct, a.status = i, status
	switch {
	case i.Hold && a.method == http.MethodHead && status == http.StatusOK: // it passes, with the header of the stream
	case i.Hold && !a.buffers:
		err = fmt.Errorf("%s answers a request that is neither GET nor POST", headerHold)
	case i.Hold && status != http.StatusOK:
		err = fmt.Errorf("%s has the status %d: a stream is 200", headerHold, status)
	case i.Hold && media != "text/event-stream":
		err = fmt.Errorf("%s has the Content-Type %q, and what is held must be text/event-stream", headerHold, clip(h.Get("Content-Type")))
	case (i.Hold || i.Next != "") && !answers.IsIdentity(h):
		err = fmt.Errorf("it is compressed with %q, though it was asked for without", clip(h.Get("Content-Encoding")))
	}
	if err != nil || a.buffers && (i.Hold || i.Next != "") {
		return status, err == nil, err
	}
	fields.Remove(h)
	a.expose(h)
	return status, false, nil
}

// expose leaves of a header what the instructions let the client see, and what it needs to
// read the answer.
func (a *instructing) expose(h http.Header) {
	if a.instruct.Expose != nil {
		maps.DeleteFunc(h, func(name string, _ []string) bool {
			return !slices.Contains(a.instruct.Expose, name) && !describesBody(name)
		})
	}
}

// describesBody reports whether a client cannot read an answer without a header.
func describesBody(name string) bool {
	switch name {
	case "Content-Type", "Content-Length", "Content-Encoding", "Transfer-Encoding":
		return true
	}
	return false
}
