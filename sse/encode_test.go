package sse

import (
	"bytes"
	"reflect"
	"strings"
	"testing"
)

func TestAppendEvent(t *testing.T) {
	for _, tt := range []struct {
		name  string
		event Event
		want  string
	}{
		{"zero value", Event{}, "data: \n\n"},
		{"all fields in order", Event{Type: "score", ID: "1763687000123-0", Retry: 2000, Data: []byte(`{"home":2}`)}, "id: 1763687000123-0\nevent: score\nretry: 2000\ndata: {\"home\":2}\n\n"},
		{"data a LF b", Event{Data: []byte("a\nb")}, "data: a\ndata: b\n\n"},
		{"data a CR LF b", Event{Data: []byte("a\r\nb")}, "data: a\ndata: b\n\n"},
		{"data a CR b", Event{Data: []byte("a\rb")}, "data: a\ndata: b\n\n"},
		{"data a LF CR b", Event{Data: []byte("a\n\rb")}, "data: a\ndata: \ndata: b\n\n"},
		{"data ends in LF", Event{Data: []byte("a\n")}, "data: a\ndata: \n\n"},
		{"data ends in CR", Event{Data: []byte("a\r")}, "data: a\ndata: \n\n"},
		{"data ends in CR LF", Event{Data: []byte("a\r\n")}, "data: a\ndata: \n\n"},
		{"data begins with a space", Event{Data: []byte(" x")}, "data:  x\n\n"},
		{"data empty", Event{Data: []byte("")}, "data: \n\n"},
		{"data is a blank line", Event{Data: []byte("\n\n")}, "data: \ndata: \ndata: \n\n"},
		{"data of every line end", Event{Data: []byte("a\r\r\nb\n\nc\r\n\r")}, "data: a\ndata: \ndata: b\ndata: \ndata: c\ndata: \ndata: \n\n"},
		{"data looks like fields", Event{Data: []byte("x\nid: 7\n: y")}, "data: x\ndata: id: 7\ndata: : y\n\n"},
		{"data with NUL", Event{Data: []byte("a\x00b")}, "data: a\x00b\n\n"},
		{"data begins with a byte order mark", Event{Data: []byte("\uFEFFa")}, "data: \uFEFFa\n\n"},
		{"data with the line separators of Unicode", Event{Data: []byte("a\u2028b\u0085c\vd")}, "data: a\u2028b\u0085c\vd\n\n"},
		{"type empty", Event{Type: "", Data: []byte("x")}, "data: x\n\n"},
		{"type message", Event{Type: "message", Data: []byte("x")}, "data: x\n\n"},
		{"type error", Event{Type: "error", Data: []byte("x")}, "event: error\ndata: x\n\n"},
		{"type of spaces and colons", Event{Type: ": a: b", Data: []byte("x")}, "event: : a: b\ndata: x\n\n"},
		{"retry", Event{Retry: 2000}, "retry: 2000\ndata: \n\n"},
		{"the shortest retry", Event{Retry: 1}, "retry: 1\ndata: \n\n"},
		{"retry at its bound", Event{Retry: MaxRetry}, "retry: 86400000\ndata: \n\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if err := tt.event.Validate(); err != nil {
				t.Fatal(err)
			}
			if got := string(AppendEvent(nil, &tt.event)); got != tt.want {
				t.Errorf("got  %q\nwant %q", got, tt.want)
			}
			if got := string(AppendEvent([]byte(": x\n\n"), &tt.event)); got != ": x\n\n"+tt.want {
				t.Errorf("appended: got %q", got)
			}
		})
	}
}

func TestValidateRefusesWhatCannotTravel(t *testing.T) {
	for _, tt := range []struct {
		name  string
		event Event
		want  error
	}{
		{"type with CR", Event{Type: "a\rb"}, ErrType},
		{"type with LF", Event{Type: "a\nb"}, ErrType},
		{"type with NUL", Event{Type: "a\x00b"}, ErrType},
		{"type not UTF-8", Event{Type: "\xff"}, ErrType},
		{"type with an escape", Event{Type: "a\x1b"}, ErrType},
		{"type that is trimmed to another", Event{Type: " evstream.gap"}, ErrType},
		{"id with CR", Event{ID: "a\rb"}, ErrID},
		{"id with a control character", Event{ID: "a\x01b"}, ErrID},
		{"id with DEL", Event{ID: "a\x7fb"}, ErrID},
		{"id with a control character of two bytes", Event{ID: "a\u009fb"}, ErrID},
		{"id after a space", Event{ID: " evstream.end"}, ErrID},
		{"id before a tab", Event{ID: "a\t"}, ErrID},
		{"id before a wide space", Event{ID: "a\u3000"}, ErrID},
		{"id with a line separator", Event{ID: "a\u2028b"}, ErrID},
		{"id above its bound", Event{ID: strings.Repeat("x", MaxID+1)}, ErrID},
		{"id at its bound, with spaces within", Event{ID: "a b" + strings.Repeat("é", (MaxID-3)/2)}, nil},
		{"id with LF", Event{ID: "a\nb"}, ErrID},
		{"id with NUL", Event{ID: "a\x00b"}, ErrID},
		{"id not UTF-8", Event{ID: "\xff"}, ErrID},
		{"retry negative", Event{Retry: -1}, ErrRetry},
		{"retry above its bound", Event{Retry: MaxRetry + 1}, ErrRetry},
		{"data not UTF-8", Event{Data: []byte("a\xc3")}, ErrData},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := tt.event.Validate(); got != tt.want {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}

func TestAppendComment(t *testing.T) {
	for _, tt := range []struct{ name, text, want string }{
		{"empty", "", ": \n"},
		{"one line", "evstream", ": evstream\n"},
		{"LF", "a\nb", ": a\n: b\n"},
		{"CR", "a\rb", ": a\n: b\n"},
		{"CR LF", "a\r\nb", ": a\n: b\n"},
		{"ends in LF", "a\n", ": a\n: \n"},
		{"looks like a field", "a\n\ndata: b", ": a\n: \n: data: b\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := string(AppendComment([]byte("x"), tt.text)); got != "x"+tt.want {
				t.Errorf("got  %q\nwant %q", got, "x"+tt.want)
			}
		})
	}
}

func TestAppendWithoutID(t *testing.T) {
	for _, tt := range []struct{ name, block, want string }{
		{"with an id", "id: 1-0\nevent: a\ndata: b\n\n", "event: a\ndata: b\n\n"},
		{"without an id", "event: a\ndata: b\n\n", "event: a\ndata: b\n\n"},
		{"only data", "data: id: 1\n\n", "data: id: 1\n\n"},
		{"an id in the data", "id: 1\ndata: a\ndata: id: 2\n\n", "data: a\ndata: id: 2\n\n"},
		{"nothing", "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := string(AppendWithoutID([]byte("x"), []byte(tt.block))); got != "x"+tt.want {
				t.Errorf("got  %q\nwant %q", got, "x"+tt.want)
			}
		})
	}
}

func TestParse(t *testing.T) {
	for _, tt := range []struct {
		block string
		want  Event
	}{
		{"data: \n\n", Event{Data: []byte{}}},
		{"data: a\n\n", Event{Data: []byte("a")}},
		{"data:  a \n\n", Event{Data: []byte(" a ")}},
		{"data: a\ndata: \n\n", Event{Data: []byte("a\n")}},
		{"data: \ndata: \ndata: b\n\n", Event{Data: []byte("\n\nb")}},
		{"id: 1-0\nevent: score\nretry: 2000\ndata: id: 2\n\n", Event{ID: "1-0", Type: "score", Retry: 2000, Data: []byte("id: 2")}},
	} {
		t.Run(tt.block, func(t *testing.T) {
			if got := Parse([]byte(tt.block)); !reflect.DeepEqual(got, tt.want) {
				t.Errorf("got  %+v\nwant %+v", got, tt.want)
			}
		})
	}
}

func TestParsedDataIsNotTheBlock(t *testing.T) {
	block := []byte("data: abc\n\n")
	e := Parse(block)
	copy(e.Data, "xyz")
	_ = append(e.Data, '!')
	if got := string(block); got != "data: abc\n\n" {
		t.Errorf("the block became %q", got)
	}
}

func TestAppendingIntoRoomAllocatesNothing(t *testing.T) {
	e := Event{Type: "score", ID: "1763687000123-0", Retry: 2000, Data: []byte("a\r\nb\nc\rd")}
	block := AppendEvent(nil, &e)
	exact := make([]byte, 0, len(block))
	for _, tt := range []struct {
		name   string
		append func()
	}{
		{"AppendEvent", func() { AppendEvent(exact, &e) }},
		{"AppendWithoutID", func() { AppendWithoutID(exact, block) }},
		{"AppendComment", func() { AppendComment(exact, "a\r\nb") }},
	} {
		if n := testing.AllocsPerRun(100, tt.append); n != 0 {
			t.Errorf("%s allocates %v times", tt.name, n)
		}
	}
}

func BenchmarkAppendEvent(b *testing.B) {
	for _, bb := range []struct{ name, data string }{
		{"data=16B", `{"home":2,"a":1}`},
		{"data=1KiB", strings.Repeat("x", 1<<10)},
		{"data=64KiB", strings.Repeat("x", 64<<10)},
		{"data=64KiB/lines=80B", strings.Repeat(strings.Repeat("x", 79)+"\n", 64<<10/80)},
		{"data=64KiB/lines=LF", strings.Repeat("\n", 64<<10)},
		{"data=64KiB/lines=CR", strings.Repeat("\r", 64<<10)},
	} {
		b.Run(bb.name, func(b *testing.B) {
			e := Event{Type: "score", ID: "1763687000123-0", Data: []byte(bb.data)}
			buf := AppendEvent(nil, &e)
			b.SetBytes(int64(len(e.Data)))
			b.ReportAllocs()
			for b.Loop() {
				buf = AppendEvent(buf[:0], &e)
			}
		})
	}
}

func BenchmarkAppendWithoutID(b *testing.B) {
	block := AppendEvent(nil, &Event{ID: "1763687000123-0", Data: bytes.Repeat([]byte("x"), 200)})
	buf := bytes.Clone(block)
	b.ReportAllocs()
	for b.Loop() {
		buf = AppendWithoutID(buf[:0], block)
	}
}
