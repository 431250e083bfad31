package broker

import (
	"fmt"
	"testing"
)

// changes reads a batch and returns its joins and leaves.
func changes(t *testing.T, s *Subscription) (told string) {
	t.Helper()
	var batch Batch
	if err := s.Read(&batch); err != nil {
		t.Fatal(err)
	}
	for _, c := range batch.Changes {
		sign := "+"
		if c.Left {
			sign = "-"
		}
		told += sign + c.Channel + " "
	}
	return told
}

func TestAReaderIsToldWhatItJoinsAndLeaves(t *testing.T) {
	b := newBroker(t)
	s := subscribe(t, b, Start{}, "a")
	join := func(name string, start Start) {
		t.Helper()
		if err := s.Join(name, start); err != nil {
			t.Fatal(err)
		}
	}
	join("b", Start{})
	join("b", Start{}) // is read already
	join("*", Start{})
	if got := changes(t, s); got != "+b +* " {
		t.Errorf("told %q", got)
	}
	s.Leave("b")
	join("b", Start{})
	join("c", Start{})
	s.Leave("c") // it was never told of c
	s.Leave("*")
	if got := changes(t, s); got != "-b +b -* " {
		t.Errorf("told %q", got)
	}
	if got := changes(t, s); got != "" {
		t.Errorf("told %q again", got)
	}
	if s.Leave("nothing"); changes(t, s) != "" {
		t.Error("told of a leave of what was not read")
	}
	// The waker was called for a leave, too: its reader would not be told before the
	// next event.
	for len(s.Wake()) > 0 {
		<-s.Wake()
	}
	s.Leave("a")
	select {
	case <-s.Wake():
	default:
		t.Error("nobody was woken for a leave")
	}
}

func TestAJoinSaysWhetherItsHistoryIsComplete(t *testing.T) {
	b := newBroker(t, func(c *Config) { c.History.Events = 2 })
	for i := range 3 {
		publish(t, b, "b", fmt.Sprint(i))
	}
	publish(t, b, "c", "x")
	s := subscribe(t, b, Start{}, "a")
	for _, tt := range []struct {
		name  string
		start Start
		want  string
	}{
		{"b", Start{Earliest: true}, "false"},
		{"b", Start{Last: 2}, "true"},
		{"b", Start{Last: 3}, "false"},
		{"c", Start{Last: 3}, "true"},
		{"c", Start{}, "nothing"},
		{"c", Start{LastEventID: b.Head().String()}, "nothing"},
	} {
		if err := s.Join(tt.name, tt.start); err != nil {
			t.Fatal(err)
		}
		var batch Batch
		if err := s.Read(&batch); err != nil || len(batch.Changes) != 1 {
			t.Fatal(err, batch.Changes)
		}
		got := "nothing"
		if r := batch.Changes[0].Replay; r != nil {
			got = fmt.Sprint(r.Complete)
			if r.Complete != r.Oldest.IsZero() {
				t.Errorf("%s %+v: %+v", tt.name, tt.start, r)
			}
		}
		if got != tt.want || batch.Changes[0].Cursor != b.Head() {
			t.Errorf("%s %+v is told as %+v, complete: %s", tt.name, tt.start, batch.Changes[0], got)
		}
		s.Leave(tt.name)
		changes(t, s)
	}
}

// A reader that does not read is not told of more and more.
func TestChangesThatWaitAreBounded(t *testing.T) {
	b := newBroker(t)
	s := subscribe(t, b, Start{}, "a", "b")
	for range 1000 {
		for _, name := range []string{"a", "b", "c"} {
			s.Leave(name)
			if err := s.Join(name, Start{}); err != nil {
				t.Fatal(err)
			}
		}
	}
	if n := len(s.changes.list); n > 6 {
		t.Errorf("%d wait", n)
	}
	s.Close()
	if s.changes != nil {
		t.Error("they are kept when the subscription is closed")
	}
}
