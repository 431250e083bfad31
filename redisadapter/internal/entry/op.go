package entry

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"strconv"
	"strings"
	"time"

	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/broker/codec"
)

// Op is an operation as append.lua takes it.
type Op struct {
	Mark        string // what comes before it: NextStage or NextAppend; "" for nothing
	Kind        broker.Kind
	Destination Destination
	Key         string // names its idempotency key; "" if it has none
	Digest      string // tells it apart from another operation with this key
	Args        []any  // what follows its code
	Bytes       int    // the size of all that
	Removes     bool   // it removes a value, or does nothing: it leaves less than there was
}

// Marks between operations.
const (
	// NextStage begins another broker.Op.Stage of the same Append.
	NextStage = ">"
	// NextAppend begins an Append, where it or the one before has stages.
	NextAppend = "|"
)

// Destination is the stream of an event, the rules that chose it, and in whose share
// the event counts.
type Destination struct {
	Stream string
	Rules  uint64
	Owner  broker.Owner
}

// OwnerText returns the owner in hexadecimal digits; "" if there is none.
func (d Destination) OwnerText() string {
	if d.Owner == 0 {
		return ""
	}
	return strconv.FormatUint(uint64(d.Owner), 16)
}

// RulesText returns the rules in hexadecimal digits; "" if there are none.
func (d Destination) RulesText() string {
	if d.Rules == 0 {
		return ""
	}
	return strconv.FormatUint(d.Rules, 16)
}

// NewOp returns op as append.lua takes it. Its arguments point into op.
func NewOp(op *broker.Op) Op {
	entry := codec.Encode(op)
	w := Op{Kind: op.Kind, Destination: Destination{Stream: Live}, Args: []any{entry}, Bytes: len(entry)}
	if op.Key != (broker.Key{}) {
		digest := op.Digest()
		w.Key, w.Digest = keyName(op.Key), string(digest[:keyDigest])
		w.Bytes += 2 * keyDigest
	}
	switch op.Kind {
	case broker.KindEvent:
		w.Destination = Destination{StreamOf(op.History), op.Rules, op.Owner}
	case broker.KindClose:
		w.Destination = Destination{StreamOf(op.History), op.Rules, op.Owner}
		w.close(op, entry)
	case broker.KindState:
		w.Destination.Owner = op.Owner
		w.state(op, entry)
	}
	return w
}

func (w *Op) close(op *broker.Op, entry []byte) {
	count, last := "", "0"
	if op.Close.Count > 0 {
		count = strconv.Itoa(op.Close.Count)
	}
	if op.Close.Event {
		last = "1"
	}
	w.Args = []any{op.Channel, int64(op.Close.For / time.Millisecond), count, last, entry}
	w.Bytes += len(op.Channel)
}

func (w *Op) state(op *broker.Op, entry []byte) {
	s := op.State
	w.Removes = s.Value == nil
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
	w.Args = []any{
		op.Channel, s.Value, digest, s.Binding(),
		int(s.If.Kind), int64(s.If.Idle / time.Millisecond), versions,
		count, size, len(op.Channel) + len(s.Value),
		keep, entry[:len(entry)-codec.StateTail(s)],
	}
	w.Bytes += len(op.Channel) + len(s.Value) + len(s.Session) + len(versions)
}

// Code is the first argument of an operation; number is that of its destination.
func (w *Op) Code(number string) string {
	letter := ""
	switch {
	case w.Kind == broker.KindPurge:
		letter = "p"
	case w.Kind == broker.KindClose:
		letter = "c"
	case w.Kind == broker.KindState:
		letter = "s"
	case w.Key != "":
		letter = "e"
	}
	if w.Key != "" {
		letter = strings.ToUpper(letter)
	}
	return letter + number
}

// keyName is the field of an idempotency key. It is a digest, because keys and
// identities may be long and are secret.
func keyName(k broker.Key) string {
	b := binary.LittleEndian.AppendUint64(make([]byte, 0, 8+len(k.Identity)+len(k.Key)), uint64(len(k.Identity)))
	b = append(b, k.Identity...)
	b = append(b, k.Key...)
	sum := sha256.Sum256(b)
	return string(sum[:keyDigest])
}

// keyDigest is the length of the digests that tell idempotency keys apart, and
// operations with one key.
const keyDigest = 16
