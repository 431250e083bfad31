package leaktest

import (
	"strings"
	"testing"
	"time"
)

// What ends is waited for, and longer than goleak does.
func TestAGoroutineThatEndsLateIsNoLeak(t *testing.T) {
	go func() { <-time.After(time.Second) }()
	if err := Find(); err != nil {
		t.Error(err)
	}
}

// A goroutine that does not end is told, with where it is.
func TestAGoroutineThatStaysIsALeak(t *testing.T) {
	stay := make(chan struct{})
	defer close(stay)
	go func() { <-stay }()
	if err := find(0); err == nil || !strings.Contains(err.Error(), "TestAGoroutineThatStaysIsALeak") {
		t.Errorf("found is %v", err)
	}
}
