package main

import (
	"errors"
	"slices"
	"strings"
	"testing"
)

// stream is events in a stream: their publishers and numbers.
func stream(events ...[2]int) []byte {
	b := []byte(": hi\n\nid: 1-1\nevent: evstream.open\ndata: {}\n\n")
	for _, e := range events {
		b = append(b, "id: 1-2\ndata: "...)
		b = appendEvent(b, 100, e[0], uint32(e[1]), 5000)
		b = append(b, "\n\n"...)
	}
	return b
}

// none is for a subscriber that begins with the first event.
var none [maxPublishers]uint32

func TestEventsAreCountedInPiecesOfAnySize(t *testing.T) {
	wire := stream([2]int{0, 1}, [2]int{7, 1}, [2]int{0, 2}, [2]int{0, 3})
	all := newTally()
	for cut := range wire {
		c := newChecker(all, 1, none)
		ready, delivered, _ := all.counts()
		for _, piece := range [][]byte{wire[:cut], wire[cut:]} {
			if err := c.take(piece, 7000); err != nil {
				t.Fatalf("cut at %d: %v", cut, err)
			}
		}
		if ready2, delivered2, _ := all.counts(); ready2 != ready+1 || delivered2 != delivered+4 {
			t.Errorf("cut at %d: %d ready, %d delivered", cut, ready2-ready, delivered2-delivered)
		}
	}
	c := newChecker(all, 2, none)
	for piece := range slices.Chunk(wire, 1) {
		if err := c.take(piece, 7000); err != nil {
			t.Fatalf("byte by byte: %v", err)
		}
	}
	if c.had != [maxPublishers]uint32{0: 3, 7: 1} {
		t.Errorf("byte by byte: %d were had", c.had)
	}
	if p50, p99 := all.lateness(); all.newest() != 7000 || p50 != 2.01 || p99 != 2.01 {
		t.Errorf("the last came at %d, 2 ms late they came %v and %v ms late", all.newest(), p50, p99)
	}
}

func TestNumbersSurviveTheirDigits(t *testing.T) {
	for _, v := range []uint64{0, 1, 63, 64, 1<<30 - 1} {
		b := appendDigits(nil, numberDigits, v)
		if got := digits(b); got != v || len(b) != numberDigits || strings.ContainsAny(string(b), "~\r\n") {
			t.Errorf("%d is %q, which is %d", v, b, got)
		}
	}
}

func TestWhatIsLostOrTwiceOrDamagedIsAnError(t *testing.T) {
	for _, tt := range []struct {
		name string
		wire []byte
		want error
	}{
		{"the first is lost", stream([2]int{0, 2}), errLost},
		{"one is lost", stream([2]int{0, 1}, [2]int{0, 3}), errLost},
		{"one comes twice", stream([2]int{0, 1}, [2]int{0, 1}), errTwice},
		{"two are swapped", stream([2]int{0, 1}, [2]int{0, 3}, [2]int{0, 2}), errLost},
		{"a publisher that is not", stream([2]int{maxPublishers, 1}), errMark},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, size := range []int{1, len(tt.wire)} {
				c, err := newChecker(newTally(), 1, none), error(nil)
				for piece := range slices.Chunk(tt.wire, size) {
					if err = c.take(piece, 0); err != nil {
						break
					}
				}
				if !errors.Is(err, tt.want) {
					t.Errorf("in pieces of %d: %v, want %v", size, err, tt.want)
				}
			}
		})
	}
}

func TestAllSubscribersGetTheSameOrder(t *testing.T) {
	all := newTally()
	for i, tt := range []struct {
		had  [maxPublishers]uint32
		wire []byte
		want error
	}{
		// The first one resumes where the others have not been yet.
		{[maxPublishers]uint32{1, 1}, stream([2]int{0, 2}), nil},
		{none, stream([2]int{0, 1}, [2]int{1, 1}, [2]int{0, 2}, [2]int{1, 2}), nil},
		{none, stream([2]int{0, 1}, [2]int{1, 1}, [2]int{0, 2}, [2]int{1, 2}), nil},
		{none, stream([2]int{1, 1}, [2]int{0, 1}), errOrder},
		{[maxPublishers]uint32{1, 1}, stream([2]int{1, 2}), errOrder},
	} {
		if err := newChecker(all, i, tt.had).take(tt.wire, 0); !errors.Is(err, tt.want) {
			t.Errorf("subscriber %d: %v, want %v", i, err, tt.want)
		}
	}
}
