package sse

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

// result is all that a stream says.
type result struct {
	events []Event
	ids    []string // LastEventID after each event, and at the end
	lastID string
	retry  int64
	err    error
}

// String shows the bytes of the events as text.
func (r result) String() string {
	return fmt.Sprintf("%s ids %q last %q retry %d: %v", show(r.events...), r.ids, r.lastID, r.retry, r.err)
}

func show(events ...Event) string {
	var b strings.Builder
	for _, e := range events {
		fmt.Fprintf(&b, "{%q %q %d %q}", e.Type, e.ID, e.Retry, e.Data)
	}
	return b.String()
}

func decode(r io.Reader, maxEvent int) result {
	d := NewDecoder(r, maxEvent)
	var got result
	for {
		e, err := d.Next()
		if err != nil {
			got.lastID, got.retry, got.err = d.LastEventID(), d.Retry(), err
			return got
		}
		got.events = append(got.events, e)
		got.ids = append(got.ids, d.LastEventID())
	}
}

// standard is a decoder that follows the letter of the standard over the whole
// stream and shares nothing with Decoder: what it and Decoder differ in is a
// bug in one of them.
func standard(stream string) result {
	want := result{retry: -1}
	stream = strings.TrimPrefix(stream, "\uFEFF")
	lines := regexp.MustCompile("\r\n|\r|\n").Split(stream, -1)
	whole, cut := lines[:len(lines)-1], lines[len(lines)-1]

	var data, typ, idBuffer string
	var own Event // what the block itself says
	apply := func(name, value string) {
		switch name {
		case "event":
			typ = value
		case "data":
			data += value + "\n"
		case "id":
			if !strings.Contains(value, "\x00") {
				idBuffer, own.ID = value, value
			}
		case "retry":
			if regexp.MustCompile(`\A[0-9]+\z`).MatchString(value) {
				ms, _ := strconv.ParseInt(value, 10, 64) // the largest of its type where it is larger
				ms = min(ms, MaxRetry)
				want.retry, own.Retry = ms, ms
			}
		}
	}
	for _, line := range whole {
		switch name, value, colon := strings.Cut(line, ":"); {
		case line == "":
			want.lastID = idBuffer
			if data != "" {
				if typ == "message" {
					typ = ""
				}
				want.events = append(want.events, Event{Type: typ, ID: own.ID, Retry: own.Retry, Data: []byte(strings.TrimSuffix(data, "\n"))})
				want.ids = append(want.ids, want.lastID)
			}
			data, typ, own = "", "", Event{}
		case colon && name == "":
		case colon:
			apply(name, strings.TrimPrefix(value, " "))
		default:
			apply(line, "")
		}
	}
	want.err = io.EOF
	if data != "" || cut == "data" || strings.HasPrefix(cut, "data:") {
		want.err = io.ErrUnexpectedEOF
	}
	return want
}

// readers are the ways a stream can arrive.
var readers = []struct {
	name string
	of   func(stream string) io.Reader
}{
	{"at once", func(s string) io.Reader { return strings.NewReader(s) }},
	{"byte by byte", func(s string) io.Reader { return iotest.OneByteReader(strings.NewReader(s)) }},
	{"half by half", func(s string) io.Reader { return iotest.HalfReader(strings.NewReader(s)) }},
	{"with its end", func(s string) io.Reader { return iotest.DataErrReader(strings.NewReader(s)) }},
	{"bytes and nothing", func(s string) io.Reader { return &haltingReader{Reader: iotest.OneByteReader(strings.NewReader(s))} }},
}

// haltingReader gives nothing at every other read.
type haltingReader struct {
	io.Reader
	halt bool
}

func (r *haltingReader) Read(p []byte) (int, error) {
	if r.halt = !r.halt; r.halt {
		return 0, nil
	}
	return r.Reader.Read(p)
}

func TestDecoder(t *testing.T) {
	for _, tt := range []struct {
		name   string
		stream string
		events []Event
		lastID string
		retry  int64 // 0 stands for none
		err    error // nil stands for io.EOF
	}{
		// The examples of the standard, §9.2.6.
		{name: "standard: three lines", stream: "data: YHOO\ndata: +2\ndata: 10\n\n", events: []Event{{Data: []byte("YHOO\n+2\n10")}}},
		{
			name:   "standard: comment, ids and an unfinished event",
			stream: ": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n\n",
			events: []Event{{ID: "1", Data: []byte("first event")}, {Data: []byte("second event")}, {Data: []byte(" third event")}},
		},
		{
			name:   "standard: empty data and an event cut short",
			stream: "data\n\ndata\ndata\n\ndata:",
			events: []Event{{Data: []byte{}}, {Data: []byte("\n")}},
			err:    io.ErrUnexpectedEOF,
		},
		{name: "standard: the space is optional", stream: "data:test\n\ndata: test\n\n", events: []Event{{Data: []byte("test")}, {Data: []byte("test")}}},
		{
			name:   "standard: typed events",
			stream: "event: add\ndata: 73857293\n\nevent: remove\ndata: 2153\n\nevent: add\ndata: 113411\n\n",
			events: []Event{{Type: "add", Data: []byte("73857293")}, {Type: "remove", Data: []byte("2153")}, {Type: "add", Data: []byte("113411")}},
		},

		{name: "nothing", stream: ""},
		{name: "only comments", stream: ":\n\n: x\n\n"},
		{name: "CR", stream: "event: a\rdata: b\r\rdata: c\r\r", events: []Event{{Type: "a", Data: []byte("b")}, {Data: []byte("c")}}},
		{name: "CR LF", stream: "event: a\r\ndata: b\r\n\r\ndata: c\r\n\r\n", events: []Event{{Type: "a", Data: []byte("b")}, {Data: []byte("c")}}},
		{name: "mixed line ends", stream: "data: a\rdata: b\ndata: c\r\n\r\n\ndata: d\n\r", events: []Event{{Data: []byte("a\nb\nc")}, {Data: []byte("d")}}},
		{name: "LF CR is two line ends", stream: "data: a\n\rdata: b\n\n", events: []Event{{Data: []byte("a")}, {Data: []byte("b")}}},
		{name: "no blank line at all between CRs", stream: "data: a\r\ndata: b\r\n\r\n", events: []Event{{Data: []byte("a\nb")}}},

		{name: "byte order mark", stream: "\uFEFFdata: a\n\n", events: []Event{{Data: []byte("a")}}},
		{name: "only the first byte order mark", stream: "\uFEFF\uFEFFdata: a\n\n"},
		{name: "byte order mark later", stream: "data: a\n\n\uFEFFdata: b\n\n", events: []Event{{Data: []byte("a")}}},
		{name: "byte order mark alone", stream: "\uFEFF"},
		{name: "byte order mark cut short", stream: "\xEF\xBB"},
		{name: "byte order mark broken", stream: "\xEF\xBBdata: a\n\ndata: b\n\n", events: []Event{{Data: []byte("b")}}},

		{name: "unknown fields", stream: "datum: x\nData: x\n data: x\ndata : x\nfoo\ndata: a\n\n", events: []Event{{Data: []byte("a")}}},
		{name: "one leading space goes", stream: "data:   a\n\ndata:\ta\n\n", events: []Event{{Data: []byte("  a")}, {Data: []byte("\ta")}}},
		{name: "colons in the value", stream: "data: a: b:c\n\ndata:::\n\n", events: []Event{{Data: []byte("a: b:c")}, {Data: []byte("::")}}},
		{name: "NUL in the data", stream: "data: a\x00b\n\n", events: []Event{{Data: []byte("a\x00b")}}},
		{name: "data that is not UTF-8 stays", stream: "data: a\xff\n\n", events: []Event{{Data: []byte("a\xff")}}},
		{name: "a line of data, then an empty one", stream: "data: a\ndata\n\n", events: []Event{{Data: []byte("a\n")}}},

		{name: "type message is no type", stream: "event: message\ndata: a\n\n", events: []Event{{Data: []byte("a")}}},
		{name: "the last type counts", stream: "event: a\nevent: b\ndata: x\n\n", events: []Event{{Type: "b", Data: []byte("x")}}},
		{name: "an empty type is no type", stream: "event: a\nevent\ndata: x\n\n", events: []Event{{Data: []byte("x")}}},
		{name: "a type without data is forgotten", stream: "event: a\n\ndata: x\n\n", events: []Event{{Data: []byte("x")}}},

		{name: "an id is of its own block", stream: "id: 1\ndata: a\n\ndata: b\n\n", events: []Event{{ID: "1", Data: []byte("a")}, {Data: []byte("b")}}, lastID: "1"},
		{name: "an id without data counts", stream: "id: 1\n\ndata: b\n\n", events: []Event{{Data: []byte("b")}}, lastID: "1"},
		{name: "an empty id resets", stream: "id: 1\ndata: a\n\nid\ndata: b\n\n", events: []Event{{ID: "1", Data: []byte("a")}, {Data: []byte("b")}}},
		{name: "an id with NUL is ignored", stream: "id: 1\ndata: a\n\nid: 2\x00\ndata: b\n\n", events: []Event{{ID: "1", Data: []byte("a")}, {Data: []byte("b")}}, lastID: "1"},
		{name: "an id whose block is cut short does not count", stream: "id: 1\n\nid: 2\n", lastID: "1"},

		{name: "retry", stream: "retry: 2000\ndata: a\n\ndata: b\n\n", events: []Event{{Retry: 2000, Data: []byte("a")}, {Data: []byte("b")}}, retry: 2000},
		{name: "retry without data", stream: "retry: 2000\n\n", retry: 2000},
		{name: "retry with zeros before it", stream: "retry: 00000000000000000000002000\n\n", retry: 2000},
		{name: "retry at its bound", stream: "retry: 86400000\n\n", retry: MaxRetry},
		{name: "retry above its bound", stream: "retry: 5\nretry: 86400001\nretry: 18446744073709551617\n\n", retry: MaxRetry},
		{name: "retry malformed", stream: "retry: 5\nretry: -1\nretry: 1.5\nretry: 2s\nretry:  7\nretry: +7\nretry:\nretry: ٣\n\n", retry: 5},

		{name: "cut before the blank line", stream: "data: a\n\ndata: b\n", events: []Event{{Data: []byte("a")}}, err: io.ErrUnexpectedEOF},
		{name: "cut inside the data", stream: "data: a\n\ndata: b", events: []Event{{Data: []byte("a")}}, err: io.ErrUnexpectedEOF},
		{name: "cut after an empty data field's name", stream: "event: x\ndata", err: io.ErrUnexpectedEOF},
		{name: "cut in a comment after data", stream: "data: a\n: x", err: io.ErrUnexpectedEOF},
		{name: "cut without data", stream: "data: a\n\nid: 1\nevent: x\n: y", events: []Event{{Data: []byte("a")}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			want := result{events: tt.events, lastID: tt.lastID, retry: tt.retry, err: tt.err}
			if want.retry == 0 {
				want.retry = -1
			}
			if want.err == nil {
				want.err = io.EOF
			}
			oracle := standard(tt.stream)
			want.ids = oracle.ids
			if !reflect.DeepEqual(oracle, want) {
				t.Errorf("the standard: got %v\nwant %v", oracle, want)
			}
			for _, r := range readers {
				if got := decode(r.of(tt.stream), 1<<10); !reflect.DeepEqual(got, want) {
					t.Errorf("%s: got %v\nwant %v", r.name, got, want)
				}
			}
		})
	}
}

func TestDecoderKeepsLastEventIDFromEventToEvent(t *testing.T) {
	got := decode(strings.NewReader("data: a\n\nid: 1\ndata: b\n\ndata: c\n\nid: 2\n\ndata: d\n\nid\ndata: e\n\n"), 100)
	if want := []string{"", "1", "1", "2", ""}; !slices.Equal(got.ids, want) {
		t.Errorf("got %q, want %q", got.ids, want)
	}
}

// chunks is a stream of which no more has arrived than chunks says.
type chunks struct {
	t    *testing.T
	left []string
}

func (c *chunks) Read(p []byte) (int, error) {
	if len(c.left) == 0 {
		c.t.Fatal("the decoder waits for more than the event")
	}
	n := copy(p, c.left[0])
	if c.left[0] = c.left[0][n:]; c.left[0] == "" {
		c.left = c.left[1:]
	}
	return n, nil
}

func TestEventIsDeliveredWithItsBlankLine(t *testing.T) {
	for _, stream := range [][]string{
		{"data: a\n\n"},
		{"data: a\r\r"},
		{"data: a\r\n\r"},
		{"data: a\r\n\r\n"},
		{"data: a\n\r"},
		{"data: a\r", "\r"},
		{"data: a\r", "\n", "\r"},
		{"\xEF", "\xBB\xBFd", "ata: a\n", "\n"},
	} {
		t.Run(fmt.Sprintf("%q", stream), func(t *testing.T) {
			d := NewDecoder(&chunks{t, slices.Clone(stream)}, 100)
			if e, err := d.Next(); err != nil || string(e.Data) != "a" {
				t.Errorf("got %q, %v", e.Data, err)
			}
		})
	}
}

func TestLFAfterADeliveredCRIsNotABlankLine(t *testing.T) {
	r := &chunks{t, []string{"event: x\rdata: a\r\r", "\nevent: y\r", "\ndata: b\r", "\n\r"}}
	d := NewDecoder(r, 100)
	for _, want := range []Event{{Type: "x", Data: []byte("a")}, {Type: "y", Data: []byte("b")}} {
		if e, err := d.Next(); err != nil || !reflect.DeepEqual(e, want) {
			t.Errorf("got %s, %v, want %s", show(e), err, show(want))
		}
	}
}

func TestDecoderBound(t *testing.T) {
	for _, tt := range []struct {
		name   string
		max    int
		stream string
		want   int // events before the error
		err    error
	}{
		{"data at the bound", 4, "data: abcd\n\n", 1, io.EOF},
		{"data above the bound", 4, "data: abcde\n\n", 0, ErrTooLong},
		{"data above the bound without its space", 4, "data:abcde\n\n", 0, ErrTooLong},
		{"lines at the bound", 4, "data: ab\ndata: c\n\n", 1, io.EOF},
		{"lines above the bound", 4, "data: ab\ndata: cd\n\n", 0, ErrTooLong},
		{"empty lines at the bound", 2, "data\ndata\ndata\n\n", 1, io.EOF},
		{"empty lines above the bound", 2, "data\ndata\ndata\ndata\n\n", 0, ErrTooLong},
		{"the bound is of one event", 4, "data: abcd\n\ndata: abcd\n\ndata: abcde\n\n", 2, ErrTooLong},
		{"a line without end", 4, "data: a\n\n: 23456789+1", 1, ErrTooLong},
		{"a line that may still end", 4, "data: a\n\n: 23456789", 1, io.EOF},
		{"no data at all", 0, "data\n\ndata:\n\ndata: \n\ndata: a\n\n", 3, ErrTooLong},
		{"negative is none", -1, "data\n\ndata: a\n\n", 1, ErrTooLong},
		{"as good as none", math.MaxInt, "data: abcd\ndata\n\n", 1, io.EOF},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, r := range readers {
				got := decode(r.of(tt.stream), tt.max)
				if len(got.events) != tt.want || got.err != tt.err {
					t.Errorf("%s: got %d events and %v, want %d and %v", r.name, len(got.events), got.err, tt.want, tt.err)
				}
			}
		})
	}
}

func TestDecoderHoldsNoMoreThanItsBoundAsksFor(t *testing.T) {
	endless := io.MultiReader(strings.NewReader("data: "), endlessReader{})
	d := NewDecoder(endless, 64<<10)
	if _, err := d.Next(); err != ErrTooLong {
		t.Fatal(err)
	}
	if got := cap(d.buf); got > 256<<10 {
		t.Errorf("holds %d bytes", got)
	}
}

type endlessReader struct{}

func (endlessReader) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'x'
	}
	return len(p), nil
}

func TestDecoderReturnsTheReadersErrorAfterItsEvents(t *testing.T) {
	broken := errors.New("broken")
	for _, stream := range []string{"data: a\n\n", "data: a\n\ndata: b", "data: a\n\ndata: b\n"} {
		d := NewDecoder(io.MultiReader(strings.NewReader(stream), iotest.ErrReader(broken)), 100)
		if e, err := d.Next(); err != nil || string(e.Data) != "a" {
			t.Fatalf("got %q, %v", e.Data, err)
		}
		for range 3 {
			if e, err := d.Next(); err != broken || !reflect.DeepEqual(e, Event{}) {
				t.Errorf("got %s, %v", show(e), err)
			}
		}
	}
}

func TestDecoderErrorsLast(t *testing.T) {
	for _, tt := range []struct {
		stream string
		err    error
	}{
		{"data: a\n\n", io.EOF},
		{"data: a\n\ndata: b", io.ErrUnexpectedEOF},
		{"data: a\n\ndata: 123456789\n\ndata: b\n\n", ErrTooLong},
		{"data: a\n\ndata: 1234\ndata: 1234\n\ndata: b\n\n", ErrTooLong},
	} {
		for _, r := range readers {
			d := NewDecoder(r.of(tt.stream), 4)
			if _, err := d.Next(); err != nil {
				t.Fatal(err)
			}
			for range 3 {
				if e, err := d.Next(); err != tt.err || !reflect.DeepEqual(e, Event{}) {
					t.Errorf("%q %s: got %s, %v, want %v", tt.stream, r.name, show(e), err, tt.err)
				}
			}
		}
	}
}

func TestDecoderGivesUpOnAReaderThatGivesNothing(t *testing.T) {
	nothing := readerFunc(func([]byte) (int, error) { return 0, nil })
	if _, err := NewDecoder(nothing, 100).Next(); err != io.ErrNoProgress {
		t.Errorf("got %v", err)
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

func TestDecodedDataIsTheCallers(t *testing.T) {
	d := NewDecoder(strings.NewReader("data: first\n\ndata: other\n\n"), 100)
	a, _ := d.Next()
	b, _ := d.Next()
	if string(a.Data) != "first" || string(b.Data) != "other" {
		t.Errorf("got %q and %q", a.Data, b.Data)
	}
}

// A line that arrives slowly, and one made of nothing but line ends, cost as
// much a byte as any other: well under a second here, and minutes if each read
// looked at the whole line again.
func TestDecoderReadsEachByteOnce(t *testing.T) {
	const size = 1 << 20
	for _, tt := range []struct{ name, stream string }{
		{"long line", "data: " + strings.Repeat("x", size) + "\n\n"},
		{"long line before many short ones", "data: " + strings.Repeat("x", size/2) + "\n" + strings.Repeat("\r", size/2) + "\n\n"},
		{"many lines", strings.Repeat("data\n", size/5) + "\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			begin := time.Now()
			for _, r := range readers {
				if got := decode(r.of(tt.stream), size); len(got.events) != 1 || got.err != io.EOF {
					t.Errorf("%s: got %d events, %v", r.name, len(got.events), got.err)
				}
			}
			if took := time.Since(begin); took > 20*time.Second {
				t.Errorf("took %v", took)
			}
		})
	}
}

func FuzzRoundTrip(f *testing.F) {
	f.Add("", "", int64(0), []byte(""))
	f.Add("message", "1763687000123-0", int64(2000), []byte("a\nb\r\nc\rd\n"))
	f.Add(" a:b", " : ", int64(MaxRetry), []byte("\uFEFF data: x\n\nid: 2\n\r\n\r\r\n"))
	f.Fuzz(func(t *testing.T, typ, id string, retry int64, data []byte) {
		e := Event{Type: typ, ID: id, Retry: retry, Data: data}
		if e.Validate() != nil {
			t.Skip()
		}
		want := e
		if want.Type == "message" {
			want.Type = ""
		}
		want.Data = []byte(strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(string(data)))

		block := AppendEvent(nil, &e)
		if n := testing.AllocsPerRun(1, func() { AppendEvent(block[:0:len(block)], &e) }); n != 0 {
			t.Errorf("%v allocations into a buffer of its size", n)
		}
		lines := 2 + bytes.Count(want.Data, []byte("\n"))
		for _, set := range []bool{want.Type != "", want.ID != "", want.Retry != 0} {
			if set {
				lines++
			}
		}
		if got := bytes.Count(block, []byte("\n")); got != lines || bytes.IndexByte(block, '\r') >= 0 {
			t.Errorf("%d lines, want %d: a field has left its line in %q", got, lines, block)
		}

		all := result{events: []Event{want}, ids: []string{want.ID}, lastID: want.ID, retry: -1, err: io.EOF}
		if want.Retry != 0 {
			all.retry = want.Retry
		}
		if got := decode(bytes.NewReader(block), max(len(data), len(typ)+1, len(id), len("86400000")+1)); !reflect.DeepEqual(got, all) {
			t.Errorf("decoded %v\nwant %v", got, all)
		}
		if got := standard(string(block)); !reflect.DeepEqual(got, all) {
			t.Errorf("the standard decodes %v\nwant %v", got, all)
		}
		if got := Parse(block); !reflect.DeepEqual(got, want) {
			t.Errorf("parsed %s\nwant %s", show(got), show(want))
		}

		without := e
		without.ID = ""
		if got, want := AppendWithoutID(nil, block), AppendEvent(nil, &without); !bytes.Equal(got, want) {
			t.Errorf("without its id %q\nwant %q", got, want)
		}
		comment := AppendComment(nil, string(data))
		if got := standard(string(comment)); len(got.events) != 0 || got.err != io.EOF {
			t.Errorf("comment %q has %v", comment, got)
		}
	})
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(""), uint16(0))
	f.Add([]byte("\uFEFFid: 1\nevent: a\nretry: 5\ndata: b\ndata\n\n: x\rid\r\ndata:c\r\rdata: d"), uint16(100))
	f.Add([]byte("data\n\ndata\r\n\r\ndata\r\rid:\x00\nretry:\nfoo\n\xEF\xBB\xBFdata\n\n"), uint16(3))
	f.Fuzz(func(t *testing.T, stream []byte, maxEvent uint16) {
		Parse(stream)
		AppendWithoutID(nil, stream)

		got := decode(bytes.NewReader(stream), int(maxEvent))
		for _, r := range readers {
			if other := decode(r.of(string(stream)), int(maxEvent)); !reflect.DeepEqual(other, got) {
				t.Errorf("%s: %v\nat once: %v", r.name, other, got)
			}
		}
		want := standard(string(stream))
		if got.err == ErrTooLong {
			want = result{events: want.events[:min(len(got.events), len(want.events))], ids: got.ids, lastID: got.lastID, retry: got.retry, err: got.err}
			if len(want.events) == 0 {
				want.events = nil
			}
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("got %v\nthe standard: %v", got, want)
		}
		for _, e := range got.events {
			if len(e.Data) > int(maxEvent) {
				t.Errorf("%d bytes of data above %d", len(e.Data), maxEvent)
			}
		}
	})
}

func BenchmarkDecoder(b *testing.B) {
	for _, bb := range []struct {
		name string
		data string
	}{
		{"data=16B", `{"home":2,"a":1}`},
		{"data=1KiB", strings.Repeat("x", 1<<10)},
		{"data=64KiB/lines=LF", strings.Repeat("\n", 64<<10)},
	} {
		b.Run(bb.name, func(b *testing.B) {
			block := AppendEvent(nil, &Event{Type: "score", ID: "1763687000123-0", Data: []byte(bb.data)})
			d := NewDecoder(&repeatReader{block: block}, 1<<20)
			b.SetBytes(int64(len(block)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := d.Next(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// repeatReader is a block again and again.
type repeatReader struct {
	block []byte
	at    int
}

func (r *repeatReader) Read(p []byte) (int, error) {
	n := copy(p, r.block[r.at:])
	r.at = (r.at + n) % len(r.block)
	return n, nil
}

func BenchmarkParse(b *testing.B) {
	block := AppendEvent(nil, &Event{Type: "score", ID: "1763687000123-0", Data: []byte(`{"home":2,"a":1}`)})
	b.ReportAllocs()
	for b.Loop() {
		Parse(block)
	}
}
