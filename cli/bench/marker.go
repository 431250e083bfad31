package bench

import (
	"bytes"
	"fmt"
	"time"
)

// A marker is in the data of each event that is published here: the run, the
// publisher, the event's number and the time since the run began. No character of it is
// changed by JSON, forms or URLs, so that it is found in whatever a server makes of the
// data.
//
//	~rrrrrr.pp.nnnnnnnn.tttttttttttttttt_
const markerLen = 1 + 6 + 1 + 2 + 1 + 8 + 1 + 16 + 1

// marker is what one says.
type marker struct {
	publisher int
	number    uint32
	sent      time.Duration
}

// appendMarker writes a marker.
func appendMarker(dst []byte, run string, m marker) []byte {
	return fmt.Appendf(dst, "~%s.%02x.%08x.%016x_", run, m.publisher, m.number, int64(m.sent))
}

// parseMarker reads a marker of the run, of markerLen bytes.
func parseMarker(b []byte, run string) (m marker, ok bool) {
	if len(b) != markerLen || b[0] != '~' || string(b[1:7]) != run || b[7] != '.' || b[10] != '.' || b[19] != '.' || b[36] != '_' {
		return m, false
	}
	publisher, ok1 := hex(b[8:10])
	number, ok2 := hex(b[11:19])
	sent, ok3 := hex(b[20:36])
	return marker{int(publisher), uint32(number), time.Duration(sent)}, ok1 && ok2 && ok3
}

func hex(b []byte) (n uint64, ok bool) {
	for _, c := range b {
		switch {
		case c >= '0' && c <= '9':
			c -= '0'
		case c >= 'a' && c <= 'f':
			c -= 'a' - 10
		default:
			return 0, false
		}
		n = n<<4 | uint64(c)
	}
	return n, true
}

// scanner finds markers in a stream that comes in pieces, and counts its events. Its
// memory is bounded.
type scanner struct {
	run     string
	carried int // bytes of carry: the beginning of what may be a marker
	carry   [markerLen]byte

	inLine  bool // not at the beginning of a line
	field   int  // how many characters of "data" the line begins with; -1: it is another field
	hasData bool // the block has a line of data
	afterCR bool
}

// markers calls found for each marker.
func (s *scanner) markers(b []byte, found func(marker)) {
	for len(b) > 0 {
		if s.carried > 0 {
			n := copy(s.carry[s.carried:], b)
			s.carried += n
			b = b[n:]
			if s.carried < markerLen {
				return
			}
			if m, ok := parseMarker(s.carry[:], s.run); ok {
				s.carried = 0
				found(m)
			} else if i := bytes.IndexByte(s.carry[1:], '~'); i >= 0 {
				s.carried = copy(s.carry[:], s.carry[1+i:])
			} else {
				s.carried = 0
			}
			continue
		}
		i := bytes.IndexByte(b, '~')
		if i < 0 {
			return
		}
		b = b[i:]
		if len(b) < markerLen {
			s.carried = copy(s.carry[:], b)
			return
		}
		if m, ok := parseMarker(b[:markerLen], s.run); ok {
			found(m)
			b = b[markerLen:]
		} else {
			b = b[1:]
		}
	}
}

// events returns how many events end in b: blocks that have data.
func (s *scanner) events(b []byte) (n int) {
	for _, c := range b {
		if c == '\n' && s.afterCR {
			s.afterCR = false
			continue
		}
		s.afterCR = c == '\r'
		if c != '\n' && c != '\r' {
			s.inLine = true
			switch {
			case s.field >= 0 && s.field < 4 && c == "data"[s.field]:
				s.field++
			case s.field == 4 && c == ':':
				s.hasData = true
				s.field = -1
			default:
				s.field = -1
			}
			continue
		}
		if s.field == 4 {
			s.hasData = true // "data" alone is a field without a value
		}
		if !s.inLine {
			if s.hasData {
				n++
			}
			s.hasData = false
		}
		s.inLine, s.field = false, 0
	}
	return n
}
