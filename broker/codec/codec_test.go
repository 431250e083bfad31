package codec

import (
	"bytes"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/sse"
)

// encoded is the entry of op, with its value.
func encoded(op *broker.Op) string {
	b := Encode(op)
	if op.State != nil {
		b = append(b, op.State.Value...)
	}
	return string(b)
}

// entryOf is the entry of op, decoded.
func entryOf(id broker.ID, op *broker.Op) broker.Entry {
	e := broker.Entry{ID: id, Version: broker.EntryVersion, Kind: op.Kind, Channel: op.Channel, Event: op.Event, Except: op.Except, Filter: op.Filter}
	if op.State != nil {
		e.State = &broker.StateEntry{Value: op.State.Value}
		if op.State.Value != nil {
			e.State.Session = op.State.Session
		}
	}
	if op.Close != nil {
		e.Close = &broker.CloseEntry{Event: op.Close.Event, For: op.Close.For}
	}
	return e
}

func TestEntriesComeBackAsTheyWere(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	text := func() string {
		if r.IntN(3) == 0 {
			return ""
		}
		b := make([]byte, r.IntN(300))
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		return string(b)
	}
	for range 5000 {
		op := broker.Op{Kind: broker.Kind(1 + r.IntN(5)), Channel: text()}
		if op.Kind == broker.KindClose {
			op.Close = &broker.CloseOp{For: time.Duration(r.Int64N(1<<40)) * time.Millisecond, Event: r.IntN(2) == 0}
		}
		switch {
		case op.Kind == broker.KindEvent, op.Kind == broker.KindNotice, op.HasEvent():
			op.Event = sse.Event{Type: text(), ID: text(), Data: []byte(text())}
			op.Except = text()
			if r.IntN(3) == 0 {
				op.Filter = &broker.Filter{}
				for range r.IntN(4) {
					op.Filter.To, op.Filter.Except = append(op.Filter.To, text()), append(op.Filter.Except, text())
				}
			}
			if r.IntN(2) == 0 {
				op.Event.Retry = r.Int64N(sse.MaxRetry + 1)
			}
		case op.Kind == broker.KindState:
			op.State = &broker.StateOp{Session: text()}
			if r.IntN(3) > 0 {
				op.State.Value = []byte("1" + text())
			}
		}
		id := broker.ID{Ms: r.Uint64(), N: r.Uint64()}
		got, want := Decode(id, encoded(&op)), entryOf(id, &op)
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("got  %+v %+v\nwant %+v %+v", got, got.State, want, want.State)
		}
	}
}

func TestEntriesAreSpelledAsTheyAreDocumented(t *testing.T) {
	for _, tt := range []struct {
		name string
		op   broker.Op
		want string
	}{
		{"event", broker.Op{Kind: broker.KindEvent, Channel: "a/b", Event: sse.Event{Data: []byte("x\ny")}}, "\x01\x01\x03a/b\x00x\ny"},
		{"event with everything", broker.Op{
			Kind: broker.KindEvent, Channel: "a", Except: "s",
			Event: sse.Event{Type: "t", ID: "i", Retry: 300, Data: []byte("d")},
		}, "\x01\x01\x01a\x0f\x01t\x01i\xac\x02\x01sd"},
		{"event with a filter", broker.Op{
			Kind: broker.KindEvent, Channel: "a", Except: "s", Event: sse.Event{Data: []byte("d")},
			Filter: &broker.Filter{To: []string{"user:a", "x"}, Except: []string{"y"}},
		}, "\x01\x01\x01a\x18\x01s\x02\x06user:a\x01x\x01\x01yd"},
		{"notice", broker.Op{Kind: broker.KindNotice, Channel: "n", Event: sse.Event{Data: []byte("d")}}, "\x01\x04\x01n\x00d"},
		{"purge", broker.Op{Kind: broker.KindPurge, Channel: "a"}, "\x01\x02\x01a"},
		{"closing", broker.Op{Kind: broker.KindClose, Channel: "a", Close: &broker.CloseOp{For: 300 * time.Millisecond}}, "\x01\x05\x01a\xac\x02\x00"},
		{"closing with an event", broker.Op{
			Kind: broker.KindClose, Channel: "a", Close: &broker.CloseOp{Event: true}, Event: sse.Event{Type: "t", Data: []byte("d")},
		}, "\x01\x05\x01a\x00\x01\x01\x01td"},
		{"state", broker.Op{Kind: broker.KindState, Channel: "a", State: &broker.StateOp{Value: []byte("42")}}, "\x01\x03\x01a\x0242"},
		{"bound state", broker.Op{Kind: broker.KindState, Channel: "a", State: &broker.StateOp{Value: []byte("42"), Session: "s"}}, "\x01\x03\x01a\x03\x01s42"},
		{"no state", broker.Op{Kind: broker.KindState, Channel: "a", State: &broker.StateOp{Session: "s"}}, "\x01\x03\x01a\x00"},
	} {
		if got := encoded(&tt.op); got != tt.want {
			t.Errorf("%s is %q, want %q", tt.name, got, tt.want)
		}
	}
}

func TestEntriesThatAreNotKnownAreForABrokerToSkip(t *testing.T) {
	id := broker.ID{Ms: 1}
	damaged := broker.Entry{ID: id, Version: broker.EntryVersion}
	for _, tt := range []struct {
		name, text string
		want       broker.Entry
	}{
		{"a newer version", "\x02\x01whatever", broker.Entry{ID: id, Version: 2, Kind: broker.KindEvent}},
		{"another kind", "\x01\x63whatever", broker.Entry{ID: id, Version: 1, Kind: 99}},
		{"a new stream", "\x01\xff5-0-10", broker.Entry{ID: id, Version: 1, Kind: KindStream, Channel: "5-0-10"}},
		{"nothing", "", damaged},
		{"a version alone", "\x01", damaged},
		{"no version", "\x00\x01\x01a\x00x", damaged},
		{"a channel that is cut", "\x01\x01\x05a", damaged},
		{"no flags", "\x01\x01\x01a", damaged},
		{"flags that are not known", "\x01\x01\x01a\x20", damaged},
		{"a filter without end", "\x01\x01\x01a\x10\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", damaged},
		{"a filter that is cut", "\x01\x01\x01a\x10\x01\x01x", damaged},
		{"a type that is cut", "\x01\x01\x01a\x01\x05t", damaged},
		{"a retry that is too long", "\x01\x01\x01a\x04\xff\xff\xff\xff\x0f", damaged},
		{"a number without end", "\x01\x01\x01a\x04" + strings.Repeat("\x80", 20), damaged},
		{"a number that is too large", "\x01\x01\x01a\x04\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02", damaged},
		{"a length that is too large", "\x01\x01\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01a", damaged},
		{"a purge that goes on", "\x01\x02\x01ab", damaged},
		{"a closing without its time", "\x01\x05\x01a", damaged},
		{"a closing with a time that is too long", "\x01\x05\x01a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x00", damaged},
		{"a closing that goes on", "\x01\x05\x01a\x00\x00x", damaged},
		{"a closing without its event", "\x01\x05\x01a\x00\x01", damaged},
		{"no state that goes on", "\x01\x03\x01a\x00x", damaged},
	} {
		if got := Decode(id, tt.text); !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%s is %+v, want %+v", tt.name, got, tt.want)
		}
	}
}

// TestEntriesKeepNothingOfWhatTheyWereReadFrom overwrites the encoded text.
func TestEntriesKeepNothingOfWhatTheyWereReadFrom(t *testing.T) {
	for _, op := range []broker.Op{
		{Kind: broker.KindEvent, Channel: "channel", Except: "session", Event: sse.Event{Type: "type", ID: "own", Retry: 1, Data: []byte("data")}},
		{Kind: broker.KindEvent, Channel: "channel", Filter: &broker.Filter{To: []string{"user:a"}, Except: []string{"user:b"}}, Event: sse.Event{Data: []byte("data")}},
		{Kind: broker.KindNotice, Channel: "channel", Event: sse.Event{Data: []byte("data")}},
		{Kind: broker.KindPurge, Channel: "channel"},
		{Kind: broker.KindClose, Channel: "channel", Event: sse.Event{Type: "type", Data: []byte("data")}, Close: &broker.CloseOp{Event: true, For: time.Second}},
		{Kind: broker.KindState, Channel: "channel", State: &broker.StateOp{Value: []byte("42"), Session: "session"}},
	} {
		b := []byte(encoded(&op))
		e := Decode(broker.ID{}, unsafe.String(&b[0], len(b)))
		copy(b, bytes.Repeat([]byte("!"), len(b)))
		if want := entryOf(broker.ID{}, &op); !reflect.DeepEqual(e, want) {
			t.Errorf("got %+v %+v, want %+v", e, e.State, want)
		}
	}
}

func FuzzDecode(f *testing.F) {
	for _, text := range []string{
		"", "\x01", "\x01\x01\x03a/b\x00x", "\x01\x01\x01a\x0f\x01t\x01i\xac\x02\x01sd", "\x01\x02\x01a",
		"\x01\x03\x01a\x03\x01s42", "\x01\x04\x01n\x00d", "\x01\x01\x01a\x18\x01s\x02\x06user:a\x01x\x01\x01yd", "\x01\x05\x01a\xac\x02\x01\x01\x01td", "\x01\xff5-0-10", "\x02\x01", "\x01\x01\x01a\x04\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02",
	} {
		f.Add(text)
	}
	id := broker.ID{Ms: 5, N: 6}
	f.Fuzz(func(t *testing.T, text string) {
		e := Decode(id, text)
		if e.ID != id || e.Version == 0 {
			t.Fatalf("%q is %+v", text, e)
		}
		switch {
		case e.Version > broker.EntryVersion:
			if e.State != nil || e.Channel != "" {
				t.Errorf("%q of another version is %+v", text, e)
			}
			return
		case e.Kind == broker.KindState && e.State == nil, e.Kind != broker.KindState && e.State != nil:
			t.Errorf("%q is %+v", text, e)
		case (e.Kind == broker.KindClose) != (e.Close != nil):
			t.Errorf("%q is %+v", text, e)
		case e.Kind < broker.KindEvent || e.Kind > broker.KindClose:
			return
		}
		// Encoded again, it decodes to the same.
		op := broker.Op{Kind: e.Kind, Channel: e.Channel, Event: e.Event, Except: e.Except, Filter: e.Filter}
		if e.State != nil {
			op.State = &broker.StateOp{Value: e.State.Value, Session: e.State.Session}
			if op.State.Value == nil {
				e.State.Session = ""
			}
		}
		if e.Close != nil {
			op.Close = &broker.CloseOp{Event: e.Close.Event, For: e.Close.For}
		}
		if again := Decode(id, encoded(&op)); !reflect.DeepEqual(again, e) {
			t.Errorf("%q is %+v, and again %+v", text, e, again)
		}
	})
}
