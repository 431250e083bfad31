package redisadapter

import (
	"crypto/sha256"
	"encoding/binary"
	"strconv"
	"time"

	"github.com/evstream/caddy-evstream/broker"
)

// live is the name of the stream of what no history keeps.
const live = "live"

// maxKeys bounds the idempotency keys that are remembered. Above it a new one is
// refused, because none may be forgotten before broker.KeyWindow is over.
const maxKeys = 1 << 20

// keyHashes is how many hashes hold the idempotency keys, each those of one
// minute. The full ones alone cover broker.KeyWindow.
const keyHashes = 6

// keys are the names of the keys of the log in Redis. Its prefix is their hash
// tag.
type keys struct {
	meta, state, value string
	idempotent         [keyHashes]string
	gone, nodes, trim  string
	streams, node      string // prefixes of the name of a stream, and of a node
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

// streamOf is the name of the stream that holds the events of a policy.
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
