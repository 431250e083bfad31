package e2e

import (
	"errors"
	"fmt"
	"io"
	"regexp"
	"testing"
)

// leaving is the nth configuration with a drain time.
func leaving(n int, drain, global string) string {
	return config(global, fmt.Sprintf(`
	header X-Generation %d
	evstream /live/* {
		allow anyone subscribe,publish **
		drain %s
		retry 1s 3s
	}
`, n, drain))
}

// goodbye is the end of a stream that was told when to reconnect.
var goodbye = regexp.MustCompile(`\nretry: \d+\n(data: {}\n\n)?$`)

func TestSIGTERMEndsTwoHundredStreams(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name   string
		drain  string
		global string
		protos []protocol
	}{
		{"drain", "2s", "", []protocol{plainH1, attachedH1, tlsH1, tlsH2}},
		{"a grace period shorter than drain", "10m", "grace_period 2s", []protocol{plainH1, attachedH1, tlsH1, tlsH2}},
		{"HTTP/3 too", "2s", "", []protocol{plainH1, attachedH1, tlsH2, tlsH3, tlsH3}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := start(t, leaving(1, test.drain, test.global))
			streams := crowd(t, s, 100, "/live/a", test.protos...)
			s.reload(leaving(2, test.drain, test.global))
			streams = append(streams, crowd(t, s, 100, "/live/a", test.protos...)...)
			p := &publisher{client: plainClient(t), base: "http://" + s.plain + "/live"}
			for range 10 {
				if err := p.publish("a"); err != nil {
					t.Fatal(err)
				}
			}
			eventually(t, "all streams have all events", func() bool { return slowest(streams) == p.last })
			allAlive(t, streams)

			s.terminate()
			t.Logf("the exit took %s", s.wait()) // and not for ever
			untold := 0
			for i, w := range streams {
				<-w.done
				if w.at() != p.last || !errors.Is(w.err, io.EOF) {
					t.Errorf("stream %d ends after event %d with %v", i, w.at(), w.err)
				}
				if !goodbye.MatchString(w.r.raw.String()) {
					untold++
				}
			}
			if untold > 0 {
				t.Errorf("%d streams were not told when to reconnect", untold)
			}
		})
	}
}
