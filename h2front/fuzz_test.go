package h2front

import (
	"bytes"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// script is a connection whose peer has sent in, in pieces, and which notes what is written.
type script struct {
	net.Conn
	in  []byte
	cut byte // says how long the pieces are
	out bytes.Buffer
}

func (s *script) Read(p []byte) (int, error) {
	if len(s.in) == 0 {
		return 0, io.EOF
	}
	n := copy(p, s.in[:min(len(s.in), 1+int(s.cut)%17)])
	s.cut = s.cut*5 + 3
	s.in = s.in[n:]
	return n, nil
}

func (s *script) Write(p []byte) (int, error)     { return s.out.Write(p) }
func (s *script) Close() error                    { return nil }
func (s *script) SetReadDeadline(time.Time) error { return nil }

// clientBytes are what a client may send after its preface.
func clientBytes() []byte {
	var b, block bytes.Buffer
	framer := http2.NewFramer(&b, nil)
	enc := hpack.NewEncoder(&block)
	for _, f := range [][2]string{{":method", "GET"}, {":scheme", "https"}, {":authority", "x"}, {":path", "/"}} {
		_ = enc.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]})
	}
	_ = framer.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 20}, http2.Setting{ID: http2.SettingMaxFrameSize, Val: 1 << 15})
	_ = framer.WriteWindowUpdate(0, 1<<20)
	_ = framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block.Bytes(), EndStream: true, EndHeaders: true})
	_ = framer.WriteWindowUpdate(1, 1<<10)
	_ = framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 3, BlockFragment: block.Bytes()[:3], PadLength: 5})
	_ = framer.WriteContinuation(3, true, block.Bytes()[3:])
	_ = framer.WriteDataPadded(3, true, []byte("body"), []byte{0, 0})
	_ = framer.WritePing(false, [8]byte{7})
	_ = framer.WriteRSTStream(1, http2.ErrCodeCancel)
	_ = framer.WriteWindowUpdate(0, 1<<31-1)
	_ = framer.WriteGoAway(0, http2.ErrCodeNo, nil)
	return b.Bytes()
}

// FuzzInput has a client send anything: the server reads it as it is.
func FuzzInput(f *testing.F) {
	f.Add(clientBytes(), byte(0), byte(0))
	f.Add(clientBytes(), byte(200), byte(3))
	f.Fuzz(func(t *testing.T, sent []byte, cut, size byte) {
		sent = append([]byte(http2.ClientPreface), sent...)
		c := New(&script{in: sent, cut: cut}, Options{ParkAfter: time.Hour})
		var got []byte
		p := make([]byte, 1+int(size))
		for {
			n, err := c.Read(p)
			got = append(got, p[:n]...)
			if err != nil {
				if !errors.Is(err, io.EOF) {
					t.Fatal(err)
				}
				break
			}
		}
		if !bytes.Equal(got, sent) {
			t.Fatalf("read %x\nwant %x", got, sent)
		}
	})
}

// FuzzOutput has the server write anything, in any pieces: the client is sent it as it is.
func FuzzOutput(f *testing.F) {
	f.Add(clientBytes(), byte(0), false)
	f.Add(clientBytes(), byte(11), true)
	f.Add(append(appendHead(nil, markerSize, frameData, flagEndStream, 1), ":23456789012345678901234\n"...), byte(9), true)
	f.Fuzz(func(t *testing.T, written []byte, cut byte, awaits bool) {
		conn := new(script)
		c := New(conn, Options{})
		if awaits {
			c.most = leastMost
			if s := c.Take(time.Hour); s == nil {
				t.Fatal("no stream was taken")
			} else {
				defer s.stopWaiting()
			}
		}
		for rest := written; len(rest) > 0; {
			n := min(len(rest), 1+int(cut)%31)
			cut = cut*5 + 3
			if got, err := c.Write(rest[:n]); got != n || err != nil {
				t.Fatal(got, err)
			}
			rest = rest[n:]
		}
		// A frame on which is not decided is held.
		if held := c.out.have; !bytes.Equal(conn.out.Bytes(), written[:len(written)-held]) || held >= len(c.out.held) {
			t.Fatalf("sent %x\nwant %x", conn.out.Bytes(), written)
		}
	})
}

// FuzzServer compares what a server makes of a client that sends anything, with a Conn and
// without one: whether it ends the connection, and why.
func FuzzServer(f *testing.F) {
	f.Add(clientBytes())
	f.Add([]byte(nil))
	var h2 http2.Server
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = io.WriteString(w, "answer")
	})
	config := &http.Server{ErrorLog: log.New(io.Discard, "", 0)}
	serve := func(conn net.Conn) {
		h2.ServeConn(conn, &http2.ServeConnOpts{Handler: handler, BaseConfig: config})
	}
	without := listen(f, serve)
	with := listen(f, func(conn net.Conn) {
		New(conn, Options{}).Serve(serve)
	})
	f.Fuzz(func(t *testing.T, sent []byte) {
		sent = whole(sent[:min(len(sent), 8<<10)]) // so few that no bound depends on how quick handlers are
		var results [2]string
		var both sync.WaitGroup
		for i, address := range []string{without, with} {
			both.Go(func() { results[i] = outcome(t, address, sent) })
		}
		both.Wait()
		// Bytes that the server has not read may cost the client the last that it was sent.
		lost := slices.Contains(results[:], "end") && !slices.Contains(results[:], "served")
		if results[0] != results[1] && !lost {
			t.Fatalf("without: %s\nwith: %s", results[0], results[1])
		}
	})
}

// whole returns b up to the end of its last whole frame.
func whole(b []byte) []byte {
	end := 0
	for len(b)-end >= headSize {
		n := headSize + parseHead(b[end:]).length
		if end+n > len(b) {
			break
		}
		end += n
	}
	return b[:end]
}

// outcome sends bytes and a PING, and tells whether that is answered, or how the connection
// ends.
func outcome(t *testing.T, address string, sent []byte) string {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Error(err)
		return ""
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(patience))
	var b bytes.Buffer
	b.WriteString(http2.ClientPreface)
	framer := http2.NewFramer(&b, conn)
	_ = framer.WriteSettings()
	b.Write(sent)
	last := [8]byte{0xee, 0xdd, 0xcc}
	_ = framer.WritePing(false, last)
	_, _ = conn.Write(b.Bytes())
	for {
		f, err := framer.ReadFrame()
		if err != nil {
			return "end"
		}
		switch f := f.(type) {
		case *http2.PingFrame:
			if f.Data == last {
				return "served"
			}
		case *http2.GoAwayFrame:
			if f.ErrCode != http2.ErrCodeNo { // the client's own may come first
				return f.ErrCode.String()
			}
		}
	}
}

// FuzzTable has a client send header blocks that are anything, while servers go and come: each of
// them understands what one does that has read all of the blocks.
func FuzzTable(f *testing.F) {
	var block bytes.Buffer
	enc := hpack.NewEncoder(&block)
	for i, size := range []uint32{4096, 200, 0, 3000} {
		enc.SetMaxDynamicTableSize(size)
		for _, name := range []string{"cookie", ":path", "x-new"} {
			_ = enc.WriteField(hpack.HeaderField{Name: name, Value: string(rune('a' + i))})
		}
		f.Add(bytes.Clone(block.Bytes()), []byte{3, 0, 40, byte(i)})
	}
	f.Add([]byte{0x40, 1, 'a', 1, 'b', 0x40, 1, 'a', 1, 'b'}, []byte{1}) // an entry that is there twice
	f.Add([]byte{0x40, 1, 'a', 1, 'b', 0x40, 1, 'c', 1, 'd', 0x82, 0xbe, 0xbf}, []byte{9, 4})
	// A table of 40 bytes, and an entry that is larger.
	f.Add([]byte{0x3f, 9, 0x40, 1, 'a', 1, 'b', 0x40, 1, 'a', 8, '1', '2', '3', '4', '5', '6', '7', '8', 0x40, 1, 'c', 1, 'd', 0xbe}, []byte{6, 17, 4, 4})
	f.Fuzz(func(t *testing.T, blocks, cuts []byte) {
		var fields [2][]hpack.HeaderField
		decoder := func(i int) *hpack.Decoder {
			d := hpack.NewDecoder(tableSize, func(f hpack.HeaderField) { fields[i] = append(fields[i], f) })
			d.SetMaxStringLength(maxString)
			return d
		}
		want, got, kept := decoder(0), decoder(1), newTable()
		for len(blocks) > 0 {
			cut := byte(10)
			if len(cuts) > 0 {
				cut, cuts = cuts[0], cuts[1:]
			}
			block := blocks[:min(len(blocks), 1+int(cut))]
			blocks = blocks[len(block):]
			if _, err := want.Write(block); err != nil || want.Close() != nil {
				return // the server ends the connection
			}
			_, err := got.Write(block)
			if err != nil && strings.Contains(err.Error(), "MUST occur at the beginning") {
				return // as it must: that is only found if the table is not empty
			}
			if err != nil || got.Close() != nil {
				t.Fatalf("%x: %v", block, err)
			}
			pad, first := int(cut%3), int(cut)%len(block)
			kept.frame(head{length: 1 + prioritySize + first + pad, kind: frameHeaders, flags: flagPadded | flagPriority})
			for _, b := range slices.Concat([]byte{byte(pad), 1, 2, 3, 4, 5}, block[:first], make([]byte, pad)) {
				kept.payload([]byte{b})
			}
			kept.frame(head{length: len(block) - first, kind: frameContinuation, flags: flagEndHeaders})
			kept.payload(block[first:])
			if cut%4 == 0 {
				continue
			}
			given, ok := kept.block()
			if !ok {
				t.Fatal("the table was given up")
			}
			got, kept = decoder(1), newTable()
			n := len(fields[1])
			if _, err := got.Write(given); err != nil || got.Close() != nil {
				t.Fatalf("%x: %v", given, err)
			}
			fields[1] = fields[1][:n]
			kept.frame(head{length: len(given), kind: frameHeaders, flags: flagEndHeaders})
			kept.payload(given)
		}
		if !slices.Equal(fields[0], fields[1]) {
			t.Fatalf("the fields are %v\nand should be %v", fields[1], fields[0])
		}
		if got, want := entries(got), entries(want); len(got) < len(want) || !slices.Equal(got[:len(want)], want) {
			t.Fatalf("the table is %v\nand should begin with %v", got, want)
		}
	})
}

// entries returns the table of a decoder, which is not to be used after it, without the oldest
// entries, which one of a hundred bytes has evicted.
func entries(decoder *hpack.Decoder) (fields []hpack.HeaderField) {
	_, _ = decoder.Write(append([]byte{0x40, 1, 'z', 67}, make([]byte, 67)...))
	decoder.SetEmitFunc(func(f hpack.HeaderField) { fields = append(fields, f) })
	for i := uint64(firstDynamic); ; i++ {
		if _, err := decoder.Write(appendInteger(nil, 0x80, i)); err != nil {
			return fields
		}
	}
}
