package redisadapter

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/evstream/caddy-evstream/internal/resp"
)

func TestOutcomeOfACommandThatFailed(t *testing.T) {
	for _, tt := range []struct {
		err     error
		written bool
		want    outcome
		text    string // in the text for operators
	}{
		{io.EOF, true, unknown, "EOF"},
		{io.EOF, false, notDone, "EOF"},
		{&net.OpError{Op: "dial", Err: errors.New("refused")}, false, notDone, "refused"},
		{fmt.Errorf("x: %w", context.DeadlineExceeded), false, notDone, "Redis does not answer"},
		{resp.Error("MOVED 5 127.0.0.1:1"), true, notDone, "another node"},
		{resp.Error("ASK 5 127.0.0.1:1"), true, notDone, "being moved"},
		{resp.Error("TRYAGAIN Multiple keys request during rehashing of slot"), true, notDone, "being moved"},
		{resp.Error("CLUSTERDOWN The cluster is down"), true, notDone, "Cluster is down"},
		{resp.Error("LOADING Redis is loading the dataset in memory"), true, notDone, "loading"},
		{resp.Error("READONLY You can't write against a read only replica."), true, notDone, "replica"},
		{resp.Error("MASTERDOWN Link with MASTER is down"), true, notDone, "lost its primary"},
		{resp.Error("BUSY Redis is busy running a script."), true, notDone, "busy"},
		{resp.Error("ERR max number of clients reached"), false, notDone, "maxclients"},
		{resp.Error("NOAUTH Authentication required."), true, refused, "wants a password"},
		{resp.Error("ERR Protocol error: unauthenticated multibulk length"), true, refused, "wants a password"},
		{fmt.Errorf("x: %w", resp.Error("WRONGPASS invalid username-password pair")), false, refused, "does not accept"},
		{resp.Error("NOPERM this user has no permissions"), true, refused, "access rules"},
		{resp.Error("ERR The user executing the script can't run this command or subcommand"), true, refused, "access rules"},
		{resp.Error("OOM command not allowed"), true, refused, "maxmemory"},
		{resp.Error("MISCONF Redis is configured to save"), true, refused, "cannot save"},
		{resp.Error("NOREPLICAS Not enough good replicas to write."), true, refused, "min-replicas-to-write"},
		{resp.Error("WRONGTYPE Operation against a key"), true, refused, "another prefix"},
		{resp.Error("ERR unknown command 'EVALSHA'"), true, refused, "Redis answered: ERR unknown command"},
		{resp.Error("EVSPARTIAL OOM command not allowed"), true, unknown, "had begun to write"},
		{refusal("no"), true, refused, "no"},
	} {
		if got := outcomeOf(tt.err, tt.written); got != tt.want {
			t.Errorf("%v, %t is %d, want %d", tt.err, tt.written, got, tt.want)
		}
		if text := explain(tt.err); !strings.Contains(text, tt.text) {
			t.Errorf("%v is explained by %q", tt.err, text)
		}
	}
	if !cutShort(fmt.Errorf("x: %w", &net.OpError{Op: "write", Err: io.ErrShortWrite})) || cutShort(&net.OpError{Op: "read", Err: io.EOF}) {
		t.Error("what was cut short is not known as that")
	}
}
