package bench

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"
)

// A stream comes in any pieces, and has what looks like markers.
func TestMarkersAreFoundInAnyPieces(t *testing.T) {
	const run = "00abcd"
	var stream []byte
	var want []marker
	for i := range 50 {
		m := marker{i % maxPublishers, uint32(i * 1_000_003), time.Duration(i) * time.Hour}
		want = append(want, m)
		stream = append(stream, "id: 1~2\ndata: {\"a\":\"~~"...)
		stream = appendMarker(stream, run, m)
		stream = append(stream, "\"}\n\n~00abcd.~00abcd.00"...)
		stream = appendMarker(stream, "00abce", m) // another run
		stream = append(stream, "~00abcd.0g.00000000.0000000000000000_"...)
	}
	for seed := range uint64(200) {
		random := rand.New(rand.NewPCG(seed, seed))
		s := scanner{run: run}
		var got []marker
		for rest := stream; len(rest) > 0; {
			n := 1 + random.IntN(min(len(rest), 1+random.IntN(100)))
			s.markers(rest[:n], func(m marker) { got = append(got, m) })
			rest = rest[n:]
		}
		if !slices.Equal(got, want) {
			t.Fatalf("seed %d: got %d markers %v", seed, len(got), got)
		}
	}
}

func TestAMarkerSurvivesWhatServersDoToData(t *testing.T) {
	b := appendMarker(nil, "00abcd", marker{15, 1<<32 - 1, time.Duration(1<<63 - 1)})
	if len(b) != markerLen {
		t.Errorf("it has %d bytes", len(b))
	}
	if got := url.QueryEscape(string(b)); got != string(b) {
		t.Errorf("in a form it is %s", got)
	}
	if got := fmt.Sprintf("%q", b); got != `"`+string(b)+`"` {
		t.Errorf("in JSON it is %s", got)
	}
	if m, ok := parseMarker(b, "00abcd"); !ok || m != (marker{15, 1<<32 - 1, time.Duration(1<<63 - 1)}) {
		t.Errorf("it is read as %+v, %v", m, ok)
	}
}

func TestEventsAreCountedAsClientsDo(t *testing.T) {
	for stream, want := range map[string]int{
		"data: a\n\n":                       1,
		"data: a\r\n\r\n":                   1,
		"data: a\r\rdata: b\r\r":            2,
		"data\n\n":                          1,
		"data:\ndata:\n\n\n":                1,
		": data: a\n\n":                     0,
		"event: data\nid: 1\n\n":            0,
		"dataset: a\n\ndat: b\n\n":          0,
		"id: 1\ndata: a\nevent: x\n\n:\n":   1,
		"data: a\n":                         0,
		"\n\n\ndata: a\n\n: x\ndata: b\n\n": 2,
	} {
		for size := 1; size <= len(stream); size++ {
			var s scanner
			n := 0
			for part := range slices.Chunk([]byte(stream), size) {
				n += s.events(part)
			}
			if n != want {
				t.Errorf("%q in pieces of %d has %d events, and was to have %d", stream, size, n, want)
			}
		}
	}
}

func BenchmarkMarkers(b *testing.B) {
	line := append([]byte("id: 1763687000123-2207812803\ndata: "+strings.Repeat("x", 63)), appendMarker(nil, "00abcd", marker{})...)
	stream := bytes.Repeat(append(line, "\n\n"...), 20)
	s := scanner{run: "00abcd"}
	found := 0
	b.SetBytes(int64(len(stream)))
	for b.Loop() {
		s.markers(stream, func(marker) { found++ })
	}
	if found != 20*b.N {
		b.Fatalf("%d of %d", found, 20*b.N)
	}
}
