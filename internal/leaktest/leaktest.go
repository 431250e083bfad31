// Package leaktest finds goroutines that tests have left behind, as goleak does, and with more
// patience: goleak waits for less than half a second, and what ends may take longer where much
// else runs.
package leaktest

import (
	"fmt"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// patience is how long a goroutine may take to end.
const patience = 20 * time.Second

// Find is an error with the goroutines that do not end.
func Find(options ...goleak.Option) error { return find(patience, options...) }

func find(patience time.Duration, options ...goleak.Option) error {
	for until := time.Now().Add(patience); ; {
		err := goleak.Find(options...)
		if err == nil || time.Now().After(until) {
			return err
		}
	}
}

// VerifyNone fails the test if there are goroutines that do not end.
func VerifyNone(t testing.TB, options ...goleak.Option) {
	t.Helper()
	if err := Find(options...); err != nil {
		t.Error(err)
	}
}

// VerifyTestMain runs the tests of a package, which must leave none.
func VerifyTestMain(m *testing.M) {
	code := m.Run()
	if code == 0 {
		if err := Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}
