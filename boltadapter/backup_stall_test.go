package boltadapter

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/evstream/caddy-evstream/broker"
)

// TestBackupWithAReaderThatStallsEnds: when the log is closed, and by itself after a while.
func TestBackupWithAReaderThatStallsEnds(t *testing.T) {
	t.Parallel()
	t.Run("at close", func(t *testing.T) {
		t.Parallel()
		l := openLog(t, testConfig(tempLog(t)))
		fill(t, l, 1)
		w, r := net.Pipe()
		defer func() { _ = errors.Join(w.Close(), r.Close()) }()
		done := make(chan error, 1)
		go func() { done <- l.Backup(context.Background(), w) }()
		if _, err := r.Read(make([]byte, 1)); err != nil { // and no more
			t.Fatal(err)
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		if err := <-done; err == nil {
			t.Error("the backup is whole")
		}
		if left, _ := filepath.Glob(filepath.Join(l.path, spoolPrefix+"*")); len(left) > 0 {
			t.Errorf("left %v", left)
		}
	})
	t.Run("in time", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			w, r := net.Pipe()
			out := impatient{w, t.Context()}
			began := time.Now()
			if _, err := out.Write([]byte("x")); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("got %v", err)
			}
			if took := time.Since(began); took != stallTime {
				t.Errorf("it took %s", took)
			}
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			out.closed = ctx
			if _, err := out.Write([]byte("x")); !errors.Is(err, broker.ErrClosed) {
				t.Errorf("got %v", err)
			}
			_ = errors.Join(w.Close(), r.Close())
		})
	})
}
