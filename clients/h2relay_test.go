package main

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// h2relay carries frames between a client over HTTP/2 without TLS and a server with it. As
// soon as the client has sent its settings, it allows the server a large window, and asks for
// something by a stream of its own, the first. What the client sends but settings comes after it.
type h2relay struct {
	client, server net.Conn
	path           string
	begun          chan struct{} // closed when the stream of its own has begun
	once           sync.Once
}

// relayH2 listens for clients. For each connection it calls ready when its own stream has begun.
func relayH2(t *testing.T, to, path string, ready func()) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	running.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			running.Go(func() {
				defer client.Close()
				server, err := tls.Dial("tcp", to, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}}) //nolint:gosec // of our own
				if err != nil {
					t.Error(err)
					return
				}
				defer server.Close()
				r := &h2relay{client: client, server: server, path: path, begun: make(chan struct{})}
				done := make(chan struct{})
				go func() {
					defer close(done)
					r.fromServer()
				}()
				r.fromClient(ready)
				_ = server.Close()
				<-done
			})
		}
	})
	t.Cleanup(func() { _ = l.Close(); running.Wait() })
	return l.Addr().String()
}

const (
	h2Head    = 9 // bytes of a frame before its payload
	h2RelayID = 1 // the stream of the relay's own
)

// frame reads a frame, as much of it as there is.
func frame(r io.Reader) (b []byte, err error) {
	b = make([]byte, h2Head)
	if n, err := io.ReadFull(r, b); err != nil {
		return b[:n], err
	}
	length := int(b[0])<<16 | int(b[1])<<8 | int(b[2])
	b = append(b, make([]byte, length)...)
	n, err := io.ReadFull(r, b[h2Head:])
	return b[:h2Head+n], err
}

// shift adds to the id of a stream in b, unless it is that of the connection.
func shift(b []byte, by int) {
	id := binary.BigEndian.Uint32(b)
	if id&(1<<31-1) != 0 {
		binary.BigEndian.PutUint32(b, id+uint32(by)) //nolint:gosec // wraps as it is to
	}
}

// fromClient carries what the client sends, until it has left.
func (r *h2relay) fromClient(ready func()) {
	preface := make([]byte, len(http2.ClientPreface))
	n, err := io.ReadFull(r.client, preface)
	_, _ = r.server.Write(preface[:n])
	if err != nil || string(preface) != http2.ClientPreface {
		r.once.Do(func() { close(r.begun) })
		_, _ = io.Copy(r.server, r.client)
		return
	}
	begins := false
	for first := true; ; first = false {
		b, err := frame(r.client)
		if len(b) >= h2Head {
			shift(b[5:], 2)
			priority := h2Head
			if b[3] == byte(http2.FrameHeaders) && b[4]&byte(http2.FlagHeadersPadded) != 0 {
				priority++
			}
			if kind := http2.FrameType(b[3]); len(b) >= priority+4 &&
				(kind == http2.FramePriority || kind == http2.FrameHeaders && b[4]&byte(http2.FlagHeadersPriority) != 0) {
				shift(b[priority:], 2)
			}
		}
		settings := err == nil && b[3] == byte(http2.FrameSettings)
		if first && settings {
			b = append(b, r.opening()...)
		}
		if !first && !begins && (!settings || b[4]&byte(http2.FlagSettingsAck) == 0) { // its first of its own
			begins = true
			select {
			case <-r.begun:
				ready()
			case <-time.After(2 * time.Second): // it has not begun as it should
			}
		}
		_, _ = r.server.Write(b)
		if err != nil {
			return
		}
	}
}

// opening are the frames of the relay's own.
func (r *h2relay) opening() []byte {
	var b, block bytes.Buffer
	enc := hpack.NewEncoder(&block)
	for _, f := range [][2]string{{":method", "GET"}, {":scheme", "https"}, {":authority", "localhost"}, {":path", r.path}} {
		// What the client encodes does not depend on it: it makes no entry of the table.
		_ = enc.WriteField(hpack.HeaderField{Name: f[0], Value: f[1], Sensitive: true})
	}
	framer := http2.NewFramer(&b, nil)
	_ = framer.WriteWindowUpdate(0, 1<<20)
	_ = framer.WriteHeaders(http2.HeadersFrameParam{StreamID: h2RelayID, BlockFragment: block.Bytes(), EndStream: true, EndHeaders: true})
	return b.Bytes()
}

// fromServer carries what the server sends, without what is for the stream of the relay's own.
func (r *h2relay) fromServer() {
	for {
		b, err := frame(r.server)
		if len(b) >= h2Head {
			switch id := binary.BigEndian.Uint32(b[5:]); {
			case id == h2RelayID:
				if b[3] == byte(http2.FrameData) {
					r.once.Do(func() { close(r.begun) })
				}
				b = nil
			case id > 0:
				shift(b[5:], -2)
			case b[3] == byte(http2.FrameGoAway) && len(b) >= h2Head+4:
				if last := binary.BigEndian.Uint32(b[h2Head:]); last > h2RelayID {
					shift(b[h2Head:], -2)
				}
			}
		}
		_, _ = r.client.Write(b)
		if err != nil {
			_ = r.client.(*net.TCPConn).CloseWrite() // the client has still to read the last
			return
		}
	}
}
