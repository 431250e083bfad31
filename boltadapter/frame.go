package boltadapter

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"hash/fnv"
	"time"
	"unsafe"

	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/broker/codec"
)

// The form of segments, as it is described in doc.go.

const (
	segmentMagic = "evstrseg"
	frameMagic   = "evfr"
	format       = 1
	headerSize   = 96
	frameHeader  = 32
)

// The types of records.
const (
	recordEntry   = 1
	recordKey     = 2
	recordWritten = 3
	recordRules   = 4
)

// identity tells one log from another.
type identity [16]byte

// chainHash is the hash of a policy.
type chainHash [8]byte

func hashOf(p broker.Policy) (sum chainHash) {
	h := fnv.New64a()
	var b [24]byte
	putPolicy(b[:], p)
	_, _ = h.Write(b[:])
	binary.BigEndian.PutUint64(sum[:], h.Sum64())
	return sum
}

func putPolicy(b []byte, p broker.Policy) {
	binary.LittleEndian.PutUint64(b, uint64(p.Events))
	binary.LittleEndian.PutUint64(b[8:], uint64(p.Age))
	binary.LittleEndian.PutUint64(b[16:], uint64(p.Bytes))
}

// header is that of a segment.
type header struct {
	identity identity
	chain    chainHash
	number   uint64 // of the segment in its chain
	frame    uint64 // the number of its first frame in the chain
	policy   broker.Policy
}

func crcTable() *crc32.Table { return crc32.MakeTable(crc32.Castagnoli) } // which is made once

func (h *header) encode() []byte {
	b := make([]byte, headerSize)
	copy(b, segmentMagic)
	binary.LittleEndian.PutUint32(b[8:], format)
	copy(b[16:], h.identity[:])
	copy(b[32:], h.chain[:])
	binary.LittleEndian.PutUint64(b[40:], h.number)
	binary.LittleEndian.PutUint64(b[48:], h.frame)
	putPolicy(b[56:], h.policy)
	binary.LittleEndian.PutUint32(b[92:], crc32.Checksum(b[:92], crcTable()))
	return b
}

var errHeader = errors.New("the header of the segment is damaged")

func decodeHeader(b []byte) (h header, err error) {
	if len(b) < headerSize || string(b[:8]) != segmentMagic ||
		binary.LittleEndian.Uint32(b[92:]) != crc32.Checksum(b[:92], crcTable()) {
		return h, errHeader
	}
	if f := binary.LittleEndian.Uint32(b[8:]); f != format {
		return h, fmt.Errorf("the segment has format %d; this version knows format %d", f, format)
	}
	copy(h.identity[:], b[16:])
	copy(h.chain[:], b[32:])
	h.number = binary.LittleEndian.Uint64(b[40:])
	h.frame = binary.LittleEndian.Uint64(b[48:])
	h.policy = broker.Policy{
		Events: int(binary.LittleEndian.Uint64(b[56:])),
		Age:    time.Duration(binary.LittleEndian.Uint64(b[64:])),
		Bytes:  int(binary.LittleEndian.Uint64(b[72:])),
	}
	return h, nil
}

// frameInfo is the header of a frame, but for its length.
type frameInfo struct {
	commit uint64
	number uint64 // in its chain
	parts  uint32 // how many chains the commit is part of
}

// beginFrame adds room for the header of a frame to b.
func beginFrame(b []byte) []byte { return append(b, make([]byte, frameHeader)...) }

// endFrame sets the header of the frame b, which is to be written at offset.
func endFrame(b []byte, h *header, offset int64, info frameInfo) {
	copy(b, frameMagic)
	binary.LittleEndian.PutUint32(b[4:], uint32(len(b)-frameHeader))
	binary.LittleEndian.PutUint64(b[8:], info.commit)
	binary.LittleEndian.PutUint64(b[16:], info.number)
	binary.LittleEndian.PutUint32(b[24:], info.parts)
	binary.LittleEndian.PutUint32(b[28:], frameSum(b, h, offset))
}

// frameSum is the checksum of a frame, and of the place that it is written at.
func frameSum(b []byte, h *header, offset int64) uint32 {
	var place [40]byte
	copy(place[:], h.identity[:])
	copy(place[16:], h.chain[:])
	binary.LittleEndian.PutUint64(place[24:], h.number)
	binary.LittleEndian.PutUint64(place[32:], uint64(offset))
	sum := crc32.Checksum(place[:], crcTable())
	sum = crc32.Update(sum, crcTable(), b[:28])
	return crc32.Update(sum, crcTable(), b[frameHeader:])
}

// nextFrame reads the frame at the beginning of rest, which is at offset in its segment.
// It is false if there is none that is whole.
func nextFrame(rest []byte, h *header, offset int64) (info frameInfo, records []byte, ok bool) {
	if len(rest) < frameHeader || string(rest[:4]) != frameMagic {
		return info, nil, false
	}
	size := int64(binary.LittleEndian.Uint32(rest[4:]))
	if size > int64(len(rest)-frameHeader) {
		return info, nil, false
	}
	frame := rest[:frameHeader+size]
	if binary.LittleEndian.Uint32(frame[28:]) != frameSum(frame, h, offset) {
		return info, nil, false
	}
	return frameInfo{
		commit: binary.LittleEndian.Uint64(frame[8:]),
		number: binary.LittleEndian.Uint64(frame[16:]),
		parts:  binary.LittleEndian.Uint32(frame[24:]),
	}, frame[frameHeader:], true
}

// record is one record of a frame: one of its fields is set.
type record struct {
	kind    byte
	id      broker.ID // recordEntry: its id; recordRules: the newest id before
	owner   broker.Owner
	entry   []byte // recordEntry: what codec.Decode reads
	key     broker.KeyRecord
	written broker.Written
	rules   uint64
}

// decodeEntry is the entry of a recordEntry. It holds nothing of the record.
func (r *record) decodeEntry() broker.Entry {
	e := codec.Decode(r.id, unsafe.String(unsafe.SliceData(r.entry), len(r.entry))) //nolint:gosec // Decode keeps nothing of it
	e.Owner = r.owner
	return e
}

// entryKind is the kind of the entry of a recordEntry, as far as it is known.
func (r *record) entryKind() broker.Kind {
	if len(r.entry) < 2 || r.entry[0] > broker.EntryVersion {
		return 0
	}
	return broker.Kind(r.entry[1])
}

var errRecord = errors.New("a record cannot be read, though its checksum is right: it may be of a newer version")

// eachRecord calls do for the records of a frame, until it returns an error.
func eachRecord(b []byte, do func(*record) error) error {
	var r record
	for len(b) > 0 {
		kind := b[0]
		size, n := binary.Uvarint(b[1:])
		if n <= 0 || size > uint64(len(b)-1-n) {
			return errRecord
		}
		body := b[1+n : 1+n+int(size)]
		b = b[1+n+int(size):]
		r = record{kind: kind}
		if !r.decode(body) {
			return errRecord
		}
		if err := do(&r); err != nil {
			return err
		}
	}
	return nil
}

func (r *record) decode(b []byte) bool {
	in := input{b: b}
	switch r.kind {
	case recordEntry:
		r.id, r.owner, r.entry = in.id(), broker.Owner(in.number()), in.b
	case recordKey:
		r.key.ID = in.id()
		r.key.At = time.UnixMilli(int64(in.number()))
		copy(r.key.Digest[:], in.take(len(r.key.Digest)))
		flags := in.take(1)
		r.key.Key.Identity, r.key.Key.Key = string(in.text()), string(in.text())
		if len(flags) == 1 {
			r.key.Created = flags[0]&1 != 0
			if flags[0]&2 != 0 {
				r.key.Answer = append([]byte{}, in.b...)
			}
		}
	case recordWritten:
		r.written.At, r.written.Channel = in.number(), string(in.b)
	case recordRules:
		r.id, r.rules = in.id(), in.number()
	default:
		return false
	}
	return !in.bad
}

// input reads numbers and texts.
type input struct {
	b   []byte
	bad bool
}

func (in *input) take(n int) []byte {
	if n < 0 || n > len(in.b) {
		in.bad, in.b = true, nil
		return nil
	}
	part := in.b[:n]
	in.b = in.b[n:]
	return part
}

func (in *input) number() uint64 {
	if b := in.take(8); b != nil {
		return binary.LittleEndian.Uint64(b)
	}
	return 0
}

func (in *input) id() broker.ID { return broker.ID{Ms: in.number(), N: in.number()} }

func (in *input) text() []byte {
	size, n := binary.Uvarint(in.b)
	if n <= 0 || size > uint64(len(in.b)-n) {
		in.bad = true
		return nil
	}
	in.take(n)
	return in.take(int(size))
}

func appendNumber(b []byte, n uint64) []byte { return binary.LittleEndian.AppendUint64(b, n) }

func appendID(b []byte, id broker.ID) []byte { return appendNumber(appendNumber(b, id.Ms), id.N) }

func appendText(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// appendEntry adds the record of an entry.
func appendEntry(b []byte, e *broker.Entry) []byte {
	op := broker.Op{Kind: e.Kind, Channel: e.Channel, Event: e.Event, Except: e.Except, Filter: e.Filter}
	if e.Close != nil {
		op.Close = &broker.CloseOp{Event: e.Close.Event, For: e.Close.For}
	}
	var value []byte
	if e.State != nil {
		op.State, value = &broker.StateOp{Value: e.State.Value, Session: e.State.Session}, e.State.Value
	}
	encoded := codec.Encode(&op)
	b = append(b, recordEntry)
	b = binary.AppendUvarint(b, uint64(24+len(encoded)+len(value)))
	b = appendNumber(appendID(b, e.ID), uint64(e.Owner))
	b = append(b, encoded...)
	return append(b, value...)
}

// appendKey adds the record of an idempotency key.
func appendKey(b []byte, k *broker.KeyRecord) []byte {
	body := make([]byte, 0, 80+len(k.Key.Identity)+len(k.Key.Key)+len(k.Answer))
	body = appendNumber(appendID(body, k.ID), uint64(k.At.UnixMilli()))
	body = append(body, k.Digest[:]...)
	flags := byte(0)
	if k.Created {
		flags |= 1
	}
	if k.Answer != nil {
		flags |= 2
	}
	body = append(body, flags)
	body = appendText(appendText(body, k.Key.Identity), k.Key.Key)
	body = append(body, k.Answer...)
	b = append(b, recordKey)
	b = binary.AppendUvarint(b, uint64(len(body)))
	return append(b, body...)
}

func appendWritten(b []byte, w *broker.Written) []byte {
	b = append(b, recordWritten)
	b = binary.AppendUvarint(b, uint64(8+len(w.Channel)))
	return append(appendNumber(b, w.At), w.Channel...)
}

func appendRules(b []byte, before broker.ID, rules uint64) []byte {
	b = append(b, recordRules, 24)
	return appendNumber(appendID(b, before), rules)
}
