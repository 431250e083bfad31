package redisadapter

import (
	"crypto/sha256"
	"encoding/binary"
	"strconv"
	"time"

	"github.com/evstream/caddy-evstream/broker"
)

// live is the stream of what is not kept.
const live = "live"

// maxKeys bounds the idempotency keys that are remembered. Over it, a new one is
// refused: to forget another early would break the promise that it carries.
const maxKeys = 1 << 20

// keyHashes is how many hashes the idempotency keys lie in, one for each
// minute: with the one that is being filled, they cover broker.KeyWindow.
const keyHashes = 6

// keys are the names of what the log has in Redis. The prefix is the hash tag
// of all of them.
type keys struct {
	meta, state, value string
	idempotent         [keyHashes]string
	gone, nodes, trim  string
	streams, node      string // before the name of a stream, of a node
}

func newKeys(prefix string) keys {
	tag := "{" + prefix + "}:"
	k := keys{
		meta:    tag + "meta",
		state:   tag + "state",
		value:   tag + "value",
		gone:    tag + "gone",
		nodes:   tag + "nodes",
		trim:    tag + "trim",
		streams: tag + "s:",
		node:    tag + "n:",
	}
	for i := range k.idempotent {
		k.idempotent[i] = tag + "k" + strconv.Itoa(i)
	}
	return k
}

// stream is the key of the stream with that name.
func (k *keys) stream(name string) string { return k.streams + name }

// streamOf is the name of the stream that the events of a policy lie in.
func streamOf(p broker.Policy) string {
	if p.Events == 0 {
		return live
	}
	name := strconv.AppendInt(make([]byte, 0, 48), int64(p.Events), 10)
	name = append(name, '-')
	name = strconv.AppendInt(name, int64(p.Age/time.Millisecond), 10)
	name = append(name, '-')
	return string(strconv.AppendInt(name, int64(p.Bytes), 10))
}

// keyName is the field that an idempotency key is remembered by. It is a
// digest, because keys and identities are long, and nobody else's business.
func keyName(k broker.Key) string {
	b := binary.LittleEndian.AppendUint64(make([]byte, 0, 8+len(k.Identity)+len(k.Key)), uint64(len(k.Identity)))
	b = append(b, k.Identity...)
	b = append(b, k.Key...)
	sum := sha256.Sum256(b)
	return string(sum[:keyDigest])
}

// keyDigest is how many bytes of a digest tell an idempotency key from another,
// and an operation from another with the same key.
const keyDigest = 16
