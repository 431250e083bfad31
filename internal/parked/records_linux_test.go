package parked

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/tls"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/chacha20poly1305"
)

// recordClient is a client of TLS 1.3 that writes and reads single records (RFC 8446,
// section 5.2), which package tls does not let a client do. That has done its handshake.
type recordClient struct {
	t       *testing.T
	conn    *net.TCPConn
	suite   uint16
	out, in half
}

// half is one direction of a connection.
type half struct {
	secret []byte
	seq    uint64
}

// The types of records, and of handshake messages.
const (
	typeAlert, typeHandshake, typeData = 21, 22, 23
	typeKeyUpdate                      = 24
)

// newRecordClient does a handshake over conn, whose other side serves TLS 1.3.
func newRecordClient(t *testing.T, conn *net.TCPConn) *recordClient {
	t.Helper()
	var keys bytes.Buffer
	over := tls.Client(conn, &tls.Config{InsecureSkipVerify: true, KeyLogWriter: &keys, MinVersion: tls.VersionTLS13})
	if err := over.Handshake(); err != nil {
		t.Fatal(err)
	}
	client := &recordClient{t: t, conn: conn, suite: over.ConnectionState().CipherSuite}
	for line := range strings.Lines(keys.String()) {
		fields := strings.Fields(line)
		secret, err := hex.DecodeString(fields[2])
		if err != nil {
			t.Fatal(err)
		}
		switch fields[0] {
		case "CLIENT_TRAFFIC_SECRET_0":
			client.out.secret = secret
		case "SERVER_TRAFFIC_SECRET_0":
			client.in.secret = secret
		}
	}
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return client
}

// expand is HKDF-Expand-Label (RFC 8446, section 7.1), without a context.
func expand(secret []byte, label string, length int) []byte {
	label = "tls13 " + label
	info := binary.BigEndian.AppendUint16(nil, uint16(length))
	info = append(append(append(info, byte(len(label))), label...), 0)
	key, err := hkdf.Expand(sha256.New, secret, string(info), length)
	if err != nil {
		panic(err)
	}
	return key
}

// aead returns the cipher of a half, and the nonce of its next record.
func (client *recordClient) aead(h *half) (cipher.AEAD, []byte) {
	client.t.Helper()
	var c cipher.AEAD
	var err error
	switch client.suite {
	case tls.TLS_AES_128_GCM_SHA256:
		var block cipher.Block
		if block, err = aes.NewCipher(expand(h.secret, "key", 16)); err == nil {
			c, err = cipher.NewGCM(block)
		}
	case tls.TLS_CHACHA20_POLY1305_SHA256:
		c, err = chacha20poly1305.New(expand(h.secret, "key", chacha20poly1305.KeySize))
	default:
		err = fmt.Errorf("the suite is %s", tls.CipherSuiteName(client.suite))
	}
	if err != nil {
		client.t.Fatal(err)
	}
	nonce := expand(h.secret, "iv", 12)
	for i, b := range binary.BigEndian.AppendUint64(nil, h.seq) {
		nonce[4+i] ^= b
	}
	h.seq++
	return c, nonce
}

// update changes the keys of a half.
func (h *half) update() { *h = half{secret: expand(h.secret, "traffic upd", sha256.Size)} }

// seal returns a record of the client's.
func (client *recordClient) seal(typ byte, content ...byte) []byte {
	client.t.Helper()
	c, nonce := client.aead(&client.out)
	header := []byte{typeData, 3, 3}
	header = binary.BigEndian.AppendUint16(header, uint16(len(content)+1+c.Overhead()))
	return c.Seal(header, nonce, append(content, typ), header)
}

// write writes bytes.
func (client *recordClient) write(records ...[]byte) {
	client.t.Helper()
	if _, err := client.conn.Write(bytes.Join(records, nil)); err != nil {
		client.t.Fatal(err)
	}
}

// keyUpdate returns a KeyUpdate, after which the keys of the client are others.
func (client *recordClient) keyUpdate(requested byte) []byte {
	client.t.Helper()
	record := client.seal(typeHandshake, typeKeyUpdate, 0, 0, 1, requested)
	client.out.update()
	return record
}

// read reads the next record that is not a session ticket. The error is that of the
// connection.
func (client *recordClient) read() (typ byte, content []byte, err error) {
	client.t.Helper()
	for {
		header := make([]byte, 5)
		if _, err := io.ReadFull(client.conn, header); err != nil {
			return 0, nil, err
		}
		body := make([]byte, binary.BigEndian.Uint16(header[3:]))
		if _, err := io.ReadFull(client.conn, body); err != nil {
			return 0, nil, err
		}
		c, nonce := client.aead(&client.in)
		content, err := c.Open(nil, nonce, body, header)
		if err != nil {
			client.t.Fatal(err)
		}
		last := len(content) - 1
		typ, content = content[last], content[:last]
		const newSessionTicket = 4
		switch {
		case typ == typeHandshake && content[0] == newSessionTicket:
			continue
		case typ == typeHandshake && content[0] == typeKeyUpdate:
			client.in.update()
		}
		return typ, content, nil
	}
}

// expect reads a record, which must be that.
func (client *recordClient) expect(typ byte, content string) {
	client.t.Helper()
	if t, got, err := client.read(); err != nil || t != typ || string(got) != content {
		client.t.Fatalf("got a record of type %d, %.100q, %v; want type %d, %.100q", t, got, err, typ, content)
	}
}

// readData reads until n bytes of data have come, and returns how many KeyUpdates came.
func (client *recordClient) readData(n int) (updates int) {
	client.t.Helper()
	for n > 0 {
		typ, content, err := client.read()
		switch {
		case err != nil:
			client.t.Fatal(n, "bytes are missing:", err)
		case typ == typeData:
			n -= len(content)
		case typ == typeHandshake:
			updates++
		}
	}
	return updates
}

// expectEnd reads what comes after the last data: a close_notify, if it is to come, and
// the end of the connection.
func (client *recordClient) expectEnd(notified bool) {
	client.t.Helper()
	if notified {
		client.expect(typeAlert, "\x01\x00")
	}
	if typ, content, err := client.read(); !errors.Is(err, io.EOF) {
		client.t.Errorf("at the end: a record of type %d, %.100q, %v", typ, content, err)
	}
}
