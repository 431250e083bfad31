package redisadapter

import (
	"encoding/base64"
	"strconv"
	"strings"
	"time"

	"github.com/evstream/caddy-evstream/broker"
)

// wireOp is an operation as append.lua takes it.
type wireOp struct {
	kind        broker.Kind
	destination destination
	key         string // see keyName; "" if it has no idempotency key
	digest      string // tells it apart from another operation with this key
	args        []any  // what follows its code
	bytes       int
}

// destination is the stream of an event, and the rules that chose it.
type destination struct {
	stream string
	rules  uint64
}

func (p destination) rulesText() string {
	if p.rules == 0 {
		return ""
	}
	return strconv.FormatUint(p.rules, 16)
}

func newWireOp(op *broker.Op) wireOp {
	entry := encode(op)
	w := wireOp{kind: op.Kind, destination: destination{stream: live}, args: []any{entry}, bytes: len(entry)}
	if op.Key != (broker.Key{}) {
		digest := op.Digest()
		w.key, w.digest = keyName(op.Key), string(digest[:keyDigest])
		w.bytes += 2 * keyDigest
	}
	switch op.Kind {
	case broker.KindEvent:
		w.destination = destination{stream: streamOf(op.History), rules: op.Rules}
	case broker.KindState:
		w.state(op, entry)
	}
	return w
}

func (w *wireOp) state(op *broker.Op, entry []byte) {
	s := op.State
	var digest, count, size string
	if s.Value != nil {
		sum := broker.ValueDigest(s.Value)
		digest = base64.RawURLEncoding.EncodeToString(sum[:])
	}
	if bounds := s.Bounds(); bounds != (broker.StateBounds{}) {
		count, size = strconv.Itoa(bounds.Count), strconv.Itoa(bounds.Bytes)
	}
	versions := []byte{' '}
	for _, id := range s.If.Versions {
		versions = append(id.AppendTo(versions), ' ')
	}
	keep := "0"
	if s.Answer {
		keep = "1"
	}
	w.args = []any{
		op.Channel, s.Value, digest, s.Session,
		int(s.If.Kind), int64(s.If.Idle / time.Millisecond), versions,
		count, size, len(op.Channel) + len(s.Value),
		keep, entry,
	}
	w.bytes += len(op.Channel) + len(s.Value) + len(s.Session) + len(versions)
}

// code is the first argument of an operation; number is that of its destination.
func (w *wireOp) code(number string) string {
	letter := ""
	switch {
	case w.kind == broker.KindPurge:
		letter = "p"
	case w.kind == broker.KindState:
		letter = "s"
	case w.key != "":
		letter = "e"
	}
	if w.key != "" {
		letter = strings.ToUpper(letter)
	}
	return letter + number
}
