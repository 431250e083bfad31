package boltadapter

import (
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/broker/logtest"
)

// testConfig is the configuration of a log in dir that logs nothing.
func testConfig(dir string) Config {
	cfg := DefaultConfig(dir)
	cfg.Logger = slog.New(slog.DiscardHandler)
	return cfg
}

// openLog opens a log that the test closes.
func openLog(t testing.TB, cfg Config) *Log {
	t.Helper()
	l, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

// crash stops a log as the end of its process would: nothing is written any more.
func (l *Log) crash() {
	l.phase.Store(phaseClosed)
	l.cancel()
	l.queue.Close()
	l.tasks.Wait()
	_ = l.db.Close()
	for _, c := range l.chains {
		_ = c.close()
	}
	l.closes.Do(func() {})
}

func TestLogMeetsTheContract(t *testing.T) {
	t.Parallel()
	logtest.Run(t, logtest.Harness{
		Open: func(t *testing.T) broker.Log { return openLog(t, testConfig(filepath.Join(t.TempDir(), "log"))) },
		Reopen: func(t *testing.T, log broker.Log) broker.Log {
			if err := log.Close(); err != nil {
				t.Fatal(err)
			}
			return openLog(t, testConfig(log.(*Log).path))
		},
	})
}

// TestLogMeetsTheContractAfterCrashes opens the logs again without Close.
func TestLogMeetsTheContractAfterCrashes(t *testing.T) {
	t.Parallel()
	logtest.Run(t, logtest.Harness{
		Open: func(t *testing.T) broker.Log { return openLog(t, testConfig(filepath.Join(t.TempDir(), "log"))) },
		Reopen: func(t *testing.T, log broker.Log) broker.Log {
			log.(*Log).crash()
			return openLog(t, testConfig(log.(*Log).path))
		},
	})
}

// eventually waits until ok.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	looks := time.NewTicker(time.Millisecond)
	defer looks.Stop()
	for !ok() {
		select {
		case <-looks.C:
		case <-deadline:
			t.Fatalf("waited in vain for: %s", what)
		}
	}
}
