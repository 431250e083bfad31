package redisadapter

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
)

func TestFateOfACommandThatFailed(t *testing.T) {
	for _, tt := range []struct {
		err     error
		written bool
		want    outcome
		text    string // in what operators are told
	}{
		{io.EOF, true, unknown, "EOF"},
		{io.EOF, false, notDone, "EOF"},
		{&net.OpError{Op: "dial", Err: errors.New("refused")}, false, notDone, "refused"},
		{fmt.Errorf("x: %w", context.DeadlineExceeded), false, notDone, "Redis does not answer"},
		{serverError("MOVED 5 127.0.0.1:1"), true, notDone, "another node"},
		{serverError("ASK 5 127.0.0.1:1"), true, notDone, "being moved"},
		{serverError("TRYAGAIN Multiple keys request during rehashing of slot"), true, notDone, "being moved"},
		{serverError("CLUSTERDOWN The cluster is down"), true, notDone, "Cluster is down"},
		{serverError("LOADING Redis is loading the dataset in memory"), true, notDone, "loading"},
		{serverError("READONLY You can't write against a read only replica."), true, notDone, "replica"},
		{serverError("MASTERDOWN Link with MASTER is down"), true, notDone, "lost its primary"},
		{serverError("BUSY Redis is busy running a script."), true, notDone, "busy"},
		{serverError("ERR max number of clients reached"), false, notDone, "maxclients"},
		{serverError("NOAUTH Authentication required."), true, refused, "wants a password"},
		{serverError("ERR Protocol error: unauthenticated multibulk length"), true, refused, "wants a password"},
		{fmt.Errorf("x: %w", serverError("WRONGPASS invalid username-password pair")), false, refused, "does not accept"},
		{serverError("NOPERM this user has no permissions"), true, refused, "access rules"},
		{serverError("ERR The user executing the script can't run this command or subcommand"), true, refused, "access rules"},
		{serverError("OOM command not allowed"), true, refused, "maxmemory"},
		{serverError("MISCONF Redis is configured to save"), true, refused, "cannot save"},
		{serverError("NOREPLICAS Not enough good replicas to write."), true, refused, "min-replicas-to-write"},
		{serverError("WRONGTYPE Operation against a key"), true, refused, "another prefix"},
		{serverError("ERR unknown command 'EVALSHA'"), true, refused, "Redis answered: ERR unknown command"},
		{serverError("EVSPARTIAL OOM command not allowed"), true, unknown, "had begun to write"},
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
