package sse

import (
	"bytes"
	"errors"
	"io"
	"strconv"
)

// ErrTooLong is the error of a Decoder that met a line, or an event, above its
// bound. It is matched with errors.Is.
var ErrTooLong = errors.New("event is longer than allowed")

var (
	idPrefix    = []byte("id: ")
	typePrefix  = []byte("event: ")
	retryPrefix = []byte("retry: ")
	dataPrefix  = []byte("data: ")

	byteOrderMark = []byte("\xEF\xBB\xBF")
)

// maxEmptyReads is how many reads may return neither bytes nor an error before a
// Decoder gives up with io.ErrNoProgress.
const maxEmptyReads = 100

// Decoder reads events from a stream, as the WHATWG HTML standard (§9.2.6)
// makes a browser read them, with three differences, because what it reads is
// passed on and not shown: text that is not UTF-8 is not replaced (Event.Validate
// finds it), an event that the end of the stream cuts off is an error and not
// dropped, and a retry above MaxRetry is taken for MaxRetry.
//
// A Decoder is not safe for concurrent use.
type Decoder struct {
	r        io.Reader
	maxEvent int
	err      error // why the stream ended; buf is decoded before it is returned

	// buf[start:end] is what was read and is not decoded yet. It begins where
	// a line begins, and buf[start:scanned] has no line end, so that each byte
	// is looked at once, however slowly a long line arrives.
	buf                 []byte
	start, scanned, end int
	begun               bool // a byte order mark has been looked for
	skipLF              bool // the last line ended in CR: a LF that follows belongs to it

	// The block being read.
	typ     string
	id      string
	retry   int64
	data    []byte
	hasData bool

	idBuffer  string // becomes lastID at the end of a block
	lastID    string
	lastRetry int64

	knownType string // the last type read: a stream mostly repeats it
}

// NewDecoder returns a Decoder that reads from r. It reads ahead: nothing else may
// read from r.
//
// maxEvent bounds the data of one event, in bytes. A line, of whatever field,
// may be longer by its "data: ", so that one line can hold all the data. This
// bounds the memory of the Decoder too, to a small multiple. There is no value for
// "no bound": with 0 and less, data must be empty.
func NewDecoder(r io.Reader, maxEvent int) *Decoder {
	return &Decoder{r: r, maxEvent: max(maxEvent, 0), lastRetry: -1}
}

// Next returns the next event. It returns as soon as the event's blank line
// has been read, also when that is a CR after which a LF may still come.
//
// The event's ID and Retry are those of its own block, empty and 0 if the block
// has none; see LastEventID for what a browser would report. Type "message" is
// returned as the empty type. The caller owns Data, which is never nil.
//
// At the end of the stream the error is io.EOF, or io.ErrUnexpectedEOF when
// that is inside an event that has data. It is ErrTooLong at a line or an event
// above the bound, and otherwise what the reader returned. After an error
// every call returns the same error.
func (d *Decoder) Next() (Event, error) {
	for {
		line, err := d.line()
		if err == nil && len(line) > 0 {
			err = d.field(line)
		}
		if err != nil {
			d.err = err
			d.start, d.scanned, d.end = 0, 0, 0
			return Event{}, err
		}
		if len(line) > 0 {
			continue
		}
		if e, ok := d.dispatch(); ok {
			return e, nil
		}
	}
}

// LastEventID returns the last event id as a browser would send it in the
// header Last-Event-ID if the stream ended now: the one of the last block that
// had an id, also when that block had no data and was no event. It is empty
// before the first, and after a block with an empty id.
func (d *Decoder) LastEventID() string { return d.lastID }

// Retry returns the last reconnection time the stream asked for, in
// milliseconds, or -1 if it asked for none.
func (d *Decoder) Retry() int64 { return d.lastRetry }

// line returns the next line without its line end. It is valid until the next
// call.
func (d *Decoder) line() ([]byte, error) {
	if !d.begun {
		if err := d.begin(); err != nil {
			return nil, err
		}
	}
	for {
		if d.skipLF && d.start < d.end {
			d.skipLF = false
			if d.buf[d.start] == '\n' {
				d.start++
				d.scanned = d.start
			}
		}
		for i := d.scanned; i < d.end; i++ {
			if c := d.buf[i]; c == '\n' || c == '\r' {
				line := d.buf[d.start:i]
				d.skipLF = c == '\r'
				d.start, d.scanned = i+1, i+1
				if d.tooLong(line) {
					return nil, ErrTooLong
				}
				return line, nil
			}
		}
		d.scanned = d.end
		if d.tooLong(d.buf[d.start:d.end]) {
			return nil, ErrTooLong
		}
		if err := d.fill(); err != nil {
			return nil, d.ended(err)
		}
	}
}

// begin skips the byte order mark that may begin a stream.
func (d *Decoder) begin() error {
	for {
		head := d.buf[:d.end]
		switch {
		case bytes.HasPrefix(head, byteOrderMark):
			d.start, d.scanned = len(byteOrderMark), len(byteOrderMark)
		case bytes.HasPrefix(byteOrderMark, head):
			err := d.fill()
			if err == nil {
				continue
			}
			if d.end == 0 {
				return err
			}
			// Part of a mark, and then the end: line meets the error again.
		}
		d.begun = true
		return nil
	}
}

// tooLong reports whether line is above the bound of a line.
func (d *Decoder) tooLong(line []byte) bool {
	return len(line)-len(dataPrefix) > d.maxEvent
}

// ended turns the end of the stream inside an event into io.ErrUnexpectedEOF.
func (d *Decoder) ended(err error) error {
	if err != io.EOF { //nolint:errorlint // a Reader ends with io.EOF itself; wrapped, it is an error
		return err
	}
	name, _, _ := bytes.Cut(d.buf[d.start:d.end], []byte(":"))
	if d.hasData || string(name) == "data" {
		return io.ErrUnexpectedEOF
	}
	return io.EOF
}

// fill reads more bytes. It returns an error only when it has read none.
func (d *Decoder) fill() error {
	if d.err != nil {
		return d.err
	}
	if d.start == d.end {
		d.start, d.scanned, d.end = 0, 0, 0
	}
	if d.end == len(d.buf) {
		if d.start > 0 {
			copy(d.buf, d.buf[d.start:d.end])
			d.scanned -= d.start
			d.end -= d.start
			d.start = 0
		} else {
			d.buf = append(d.buf, make([]byte, max(len(d.buf), 4096))...)
		}
	}
	for range maxEmptyReads {
		n, err := d.r.Read(d.buf[d.end:])
		d.end += n
		d.err = err
		if n > 0 {
			return nil
		}
		if err != nil {
			return err
		}
	}
	d.err = io.ErrNoProgress
	return d.err
}

// field applies one line of a block. Its error is ErrTooLong.
func (d *Decoder) field(line []byte) error {
	name, value, _ := bytes.Cut(line, []byte(":"))
	if len(value) > 0 && value[0] == ' ' {
		value = value[1:]
	}
	switch string(name) {
	case "data":
		if d.hasData {
			d.data = append(d.data, '\n')
		}
		d.hasData = true
		if len(value) > d.maxEvent-len(d.data) {
			return ErrTooLong
		}
		d.data = append(d.data, value...)
	case "event":
		if string(value) != d.knownType {
			d.knownType = string(value)
		}
		d.typ = d.knownType
	case "id":
		if bytes.IndexByte(value, 0) < 0 {
			d.id = string(value)
			d.idBuffer = d.id
		}
	case "retry":
		if ms, ok := parseRetry(value); ok {
			d.retry, d.lastRetry = ms, ms
		}
	}
	return nil
}

// dispatch ends a block, and returns the event it was if it had data.
func (d *Decoder) dispatch() (Event, bool) {
	d.lastID = d.idBuffer
	e, ok := Event{}, d.hasData
	if ok {
		if d.typ != "message" {
			e.Type = d.typ
		}
		e.ID, e.Retry = d.id, d.retry
		e.Data = append(make([]byte, 0, len(d.data)), d.data...)
	}
	d.typ, d.id, d.retry = "", "", 0
	d.data = d.data[:0]
	d.hasData = false
	return e, ok
}

// parseRetry reads a number of milliseconds: ASCII digits, and at least one. Above
// MaxRetry it is MaxRetry.
func parseRetry(value []byte) (int64, bool) {
	var ms int64
	for _, c := range value {
		if c < '0' || c > '9' {
			return 0, false
		}
		ms = min(ms*10+int64(c-'0'), MaxRetry)
	}
	return ms, len(value) > 0
}

// Parse returns the event that AppendEvent made block of, but that its line
// ends are LF and type "message" is the empty type. Its strings and its Data
// are fresh and the caller's own.
//
// block must be one such block: for other bytes the result is undefined, and input
// from outside must be read by a Decoder. Parse is safe for concurrent use.
func Parse(block []byte) Event {
	var e Event
	if value, rest, ok := cutField(block, idPrefix); ok {
		e.ID, block = string(value), rest
	}
	if value, rest, ok := cutField(block, typePrefix); ok {
		e.Type, block = string(value), rest
	}
	if value, rest, ok := cutField(block, retryPrefix); ok {
		e.Retry, _ = strconv.ParseInt(string(value), 10, 64)
		block = rest
	}
	value, rest, more := cutField(block, dataPrefix)
	e.Data = make([]byte, 0, max(len(value), len(block)-len("data: \n\n")))
	e.Data = append(e.Data, value...)
	for more {
		if value, rest, more = cutField(rest, dataPrefix); more {
			e.Data = append(e.Data, '\n')
			e.Data = append(e.Data, value...)
		}
	}
	return e
}

// cutField returns the value of the line that block begins with, if that is the
// field of prefix, and what follows the line.
func cutField(block, prefix []byte) (value, rest []byte, ok bool) {
	value, ok = bytes.CutPrefix(block, prefix)
	if !ok {
		return nil, block, false
	}
	value, rest, _ = bytes.Cut(value, []byte("\n"))
	return value, rest, true
}
