package resp

import (
	"errors"
	"slices"
	"strings"
	"testing"
)

func TestCommandsAreWritten(t *testing.T) {
	got := string(AppendCommand([]byte("before "), "XRANGE", "", "a\r\nb"))
	if want := "before *3\r\n$6\r\nXRANGE\r\n$0\r\n\r\n$4\r\na\r\nb\r\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestScannerFindsTheEndOfAReply(t *testing.T) {
	for _, reply := range []string{
		"+OK\r\n", "-ERR no\r\n", ":5\r\n", "$-1\r\n", "*-1\r\n", "*0\r\n", "$0\r\n\r\n", "$4\r\n\r\n$9\r\n",
		"*2\r\n*1\r\n$1\r\na\r\n*2\r\n:1\r\n-ERR\r\n", "$20\r\n" + strings.Repeat("x", 20) + "\r\n",
	} {
		for cut := range len(reply) {
			var s Scanner
			if whole, err := s.Scan([]byte(reply[:cut])); whole || err != nil {
				t.Errorf("%q: whole after %d bytes: %v, %v", reply, cut, whole, err)
			}
			if whole, err := s.Scan([]byte(reply + "*1\r\n")); !whole || err != nil || s.Len() != len(reply) {
				t.Errorf("%q: %v, %v, %d bytes", reply, whole, err, s.Len())
			}
		}
	}
	for _, text := range []string{"x\r\n", "\n", "$a\r\n", "*\r\n", "$1073741825\r\n", "*1\r\nGET\r\n", "$99999999999999999999\r\n"} {
		if _, err := new(Scanner).Scan([]byte(text)); !errors.Is(err, ErrSyntax) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestRepliesAreTakenApart(t *testing.T) {
	r := NewReply("*3\r\n$2\r\na\n\r\n*-1\r\n$0\r\n\r\n")
	n, err := r.Array()
	first, err1 := r.Bulk()
	null, err2 := r.Array()
	last, err3 := r.Bulk()
	if n != 3 || first != "a\n" || null != 0 || last != "" || errors.Join(err, err1, err2, err3) != nil || r.Offset() != len(r.text) {
		t.Errorf("%d, %q, %d, %q: %v", n, first, null, last, errors.Join(err, err1, err2, err3))
	}
	for _, text := range []string{
		"", "\n", "\r\n", "*1\n", "*1\r", "$-1\r\n", "$1\r\n", "$1\r\na\n", "$2\r\na\r\n", "$9223372036854775807\r\na\r\n", "+a\r\n", ":1\r\n",
	} {
		if got, err := NewReply(text).Bulk(); !errors.Is(err, ErrSyntax) {
			t.Errorf("the string in %q is %q, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "*\r\n", "*a\r\n", "$1\r\na\r\n", "*1073741825\r\n"} {
		if n, err := NewReply(text).Array(); !errors.Is(err, ErrSyntax) {
			t.Errorf("the array in %q has %d, %v", text, n, err)
		}
	}
	if err := NewReply("*1\r\n").ArrayOf(2); !errors.Is(err, ErrSyntax) {
		t.Errorf("an array of another length: %v", err)
	}
	const text = "-MOVED 1 host:1\r\n"
	_, err = NewReply(text).Bulk()
	_, err1 = NewReply(text).Array()
	err2 = NewReply(text).ArrayOf(2)
	for _, err := range []error{err, err1, err2} {
		if refused, is := errors.AsType[Error](err); !is || refused.Error() != "MOVED 1 host:1" {
			t.Errorf("an error of the server: %v", err)
		}
	}
}

// FuzzReply: whatever a server sends is an error or taken apart, in whichever
// parts the network delivers it.
func FuzzReply(f *testing.F) {
	f.Add([]byte("*1\r\n*2\r\n$3\r\n5-1\r\n*2\r\n$1\r\nm\r\n$4\r\n\r\n$9\r\n"), 3)
	f.Add([]byte("*2\r\n*0\r\n$-1\r\n"), 1)
	f.Add([]byte("-ERR\r\n+OK\r\n:1\r\n"), 4)
	f.Fuzz(func(t *testing.T, b []byte, cut int) {
		var once, parts Scanner
		whole, err := once.Scan(b)
		if whole && once.Len() > len(b) {
			t.Fatalf("of %d bytes it takes %d", len(b), once.Len())
		}
		early, err2 := parts.Scan(b[:max(0, min(cut, len(b)))])
		if !early && err2 == nil {
			early, err2 = parts.Scan(b)
		}
		if early != whole || (err == nil) != (err2 == nil) || whole && parts.Len() != once.Len() {
			t.Fatalf("at once: %v, %v, %d bytes; in parts: %v, %v, %d bytes", whole, err, once.Len(), early, err2, parts.Len())
		}
		r := NewReply(string(b))
		for err = nil; err == nil; { // until something is neither
			at := r.at
			if _, err = r.Array(); err != nil {
				r.at = at
				_, err = r.Bulk()
			}
		}
	})
}

// FuzzCommand: what is written is what is read.
func FuzzCommand(f *testing.F) {
	f.Add("XRANGE", "a\r\nb", "")
	f.Fuzz(func(t *testing.T, a, b, c string) {
		words := []string{a, b, c}
		text := AppendCommand(nil, words...)
		var s Scanner
		if whole, err := s.Scan(text); !whole || err != nil || s.Len() != len(text) {
			t.Fatalf("%v, %v, %d of %d bytes", whole, err, s.Len(), len(text))
		}
		r := NewReply(string(text))
		n, err := r.Array()
		if n != len(words) || err != nil {
			t.Fatalf("%d words, %v", n, err)
		}
		var got []string
		for range n {
			word, err := r.Bulk()
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, word)
		}
		if !slices.Equal(got, words) {
			t.Fatalf("%q", got)
		}
	})
}
