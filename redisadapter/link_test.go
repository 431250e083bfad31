package redisadapter

import (
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/evstream/caddy-evstream/internal/resp"
)

func TestRepliesAreReceivedWholeAndOneByOne(t *testing.T) {
	t.Parallel()
	here, there := net.Pipe()
	w := &link{patience: 5 * time.Second, raw: here, dialed: []net.Conn{here}}
	big := fmt.Sprintf("$%d\r\n%s\r\n", 1<<20, strings.Repeat("x", 1<<20))
	entry := "*1\r\n*2\r\n$3\r\n5-1\r\n*4\r\n$1\r\nm\r\n$8\r\nw 4-0 v\n\r\n$1\r\ne\r\n$4\r\n\r\n$9\r\n" // with a newline in each value
	replies := []string{entry, "*-1\r\n", big, ":5\r\n", entry, "-ERR no\r\n"}
	sent := make(chan error, 1)
	go func() {
		_, err := io.Copy(there, &byParts{b: []byte(strings.Join(replies, "")), part: 7919})
		sent <- errors.Join(err, there.Close())
	}()
	for i, want := range replies {
		if got, err := w.receive(0); err != nil || *got != *resp.NewReply(want) {
			t.Fatalf("reply %d is another one, or %v", i, err)
		}
	}
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
	if _, err := w.receive(0); !errors.Is(err, io.EOF) {
		t.Errorf("after the end: %v", err)
	}
	why := errors.New("why")
	w.cut(why)
	if _, err := w.receive(0); !errors.Is(err, why) {
		t.Errorf("after a cut: %v", err)
	}
	w.command("x")
	if err := w.send(); !errors.Is(err, why) {
		t.Errorf("after a cut: %v", err)
	}
}

// byParts reads a part at a time.
type byParts struct {
	b    []byte
	part int
}

// Read implements io.Reader.
func (r *byParts) Read(p []byte) (int, error) {
	if len(r.b) == 0 {
		return 0, io.EOF
	}
	n := copy(p, r.b[:min(r.part, len(r.b))])
	r.b = r.b[n:]
	return n, nil
}
