//go:build unix

package cli

import (
	"bytes"
	"io"
	"os"
	"syscall"
	"testing"
	"time"
)

// ^C ends the input of lines, and what was published is said.
func TestLinesThatAreInterruptedSayHowFarTheyCame(t *testing.T) {
	startHub(t)
	in, feed := io.Pipe()
	defer feed.Close()
	cmd := root()
	out := new(printed)
	cmd.SetIn(in)
	cmd.SetOut(out)
	cmd.SetErr(out)
	cmd.SetArgs([]string{"publish", "a", "--lines"})
	done := make(chan error, 1)
	go func() { done <- cmd.ExecuteContext(t.Context()) }()
	if _, err := io.Copy(feed, bytes.NewReader([]byte("1\n2\nhalf a "))); err != nil {
		t.Fatal(err)
	}
	// Both lines were asked for after the signal was: the third is waited for.
	must(t, "", "subscribe", "a", "--since", "earliest", "--count", "2", "--raw", "--quiet")
	if err := syscall.Kill(os.Getpid(), syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-done:
		if got := alike(out.String()); err != nil || got != "2 events, up to ID\n" {
			t.Errorf("%q, %v", got, err)
		}
	case <-time.After(time.Minute):
		t.Fatal("it goes on")
	}
}
