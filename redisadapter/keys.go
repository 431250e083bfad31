package redisadapter

import "strconv"

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
	closed, closing    string
	streams, node      string // prefixes of the name of a stream, and of a node
}

func newKeys(prefix string) keys {
	tag := "{" + prefix + "}:"
	k := keys{
		meta:    tag + "meta",
		state:   tag + "state",
		value:   tag + "value",
		gone:    tag + "gone",
		closed:  tag + "closed",
		closing: tag + "closing",
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
