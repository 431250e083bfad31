package stream

import (
	"crypto/tls"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
)

// Clients read some events or none, hang up in each way, in the middle of an event, too, and
// resume with the id that they have read last. The model is the slice of what was
// published: each must read it in order, once and to the end.
func TestClientsOnSocketsThatStallAndResumeMissNothing(t *testing.T) {
	overEach(t, testClientsOnSocketsThatStallAndResumeMissNothing)
}

func testClientsOnSocketsThatStallAndResumeMissNothing(t *testing.T) {
	site := newTCPSite(t, Options{})
	rng := rand.New(rand.NewPCG(18, 2))
	type reader struct {
		*tcpClient
		next int // index of the event that it has to read
	}
	var sent []string
	connect := func(r *reader) {
		var header []string
		if r.next > 0 {
			id, _, _ := strings.Cut(strings.TrimPrefix(sent[r.next-1], "id: "), "\n")
			header = []string{"Last-Event-ID: " + id}
		}
		r.tcpClient = site.open("/a", header...)
	}
	read := func(r *reader, n int) {
		for range min(n, len(sent)-r.next) {
			r.expect(sent[r.next])
			r.next++
		}
	}
	readers := make([]*reader, 6)
	for i := range readers {
		readers[i] = new(reader)
		connect(readers[i])
	}
	sent = append(sent, site.publish("a", "first"))
	for _, r := range readers {
		read(r, 1)
	}
	for i := range 400 {
		r := readers[rng.IntN(len(readers))]
		switch n := rng.IntN(20); {
		case n < 8:
			for range 1 + rng.IntN(3) {
				sent = append(sent, site.publish("a", fmt.Sprint(i, " ", strings.Repeat("x", rng.IntN(8<<10)))))
			}
		case n < 9:
			sent = append(sent, site.publish("a", fmt.Sprint(i, " ", strings.Repeat("x", 100<<10))))
		case n < 17:
			read(r, 1+rng.IntN(20))
		default:
			if rng.IntN(2) == 0 && r.next < len(sent) {
				r.expect(sent[r.next][:rng.IntN(len(sent[r.next]))])
			}
			switch over, secure := r.over.(*tls.Conn); rng.IntN(3) {
			case 0:
				_ = r.conn.SetLinger(0) // a reset
			case 1:
				if secure {
					_ = over.CloseWrite()
				}
			}
			session := r.session
			_ = r.conn.Close()
			site.ended(session, ReasonClient)
			connect(r)
		}
	}
	for _, r := range readers {
		read(r, len(sent))
		r.session.End()
		r.expect("id: evstream.end\nevent: end\ndata: {}\n\n")
		r.expectEnd()
		site.ended(r.session, ReasonEnded)
	}
}
