package takeover

import (
	"io"
	"testing"

	"github.com/evstream/caddy-evstream/broker"
)

// What an application says to its first reader about coming back does not keep others away,
// who read the channel beside more.
func TestARecordedAnswerKeepsNoReaderAway(t *testing.T) {
	g := recordingOn(t, broker.NewMemory())
	if _, err := g.feed.Write([]byte("retry: 86400000\ndata: 1\n\nretry: 7\ndata: 2\n\n")); err != nil {
		t.Fatal(err)
	}
	g.feed.close(io.EOF)
	g.publish()
	s, err := g.rec.hub.Broker().Subscribe(broker.SubscribeOptions{Channels: []string{"a"}, Start: broker.Start{Earliest: true}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	batch := broker.Batch{Decode: true, Max: 10}
	if err := s.Read(&batch); err != nil || len(batch.Deliveries) != 2 {
		t.Fatal(batch.Deliveries, err)
	}
	for i, want := range []int64{3600000, 7} {
		if got := batch.Deliveries[i].Event.Retry; got != want {
			t.Errorf("event %d has the retry %d, want %d", i+1, got, want)
		}
	}
}
