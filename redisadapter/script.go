package redisadapter

import (
	"context"
	"crypto/rand"
	"crypto/sha1" //nolint:gosec // it is how Redis names a script
	_ "embed"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/redisadapter/internal/entry"
)

//go:embed append.lua
var appendScript string

var appendSHA = func() string {
	sum := sha1.Sum([]byte(appendScript)) //nolint:gosec // it is how Redis names a script
	return hex.EncodeToString(sum[:])
}()

// request is one call of append.lua.
type request struct {
	ops      []entry.Op
	streams  []string      // those among the keys; the first is live
	maxKeys  int           // how many idempotency keys may be remembered
	replicas int           // how many are waited for
	timeout  time.Duration // for how long

	nonce nonce
}

// nonce is the random word of a batch. It knows whether Redis may have received
// the request.
type nonce struct {
	word    string
	written bool
}

// MarshalBinary implements encoding.BinaryMarshaler. go-redis calls it when it
// has a connection and is about to write the request to it.
func (n *nonce) MarshalBinary() ([]byte, error) {
	n.written = true
	return []byte(n.word), nil
}

// errAnswer is the error of an answer that a script of this package cannot give.
var errAnswer = errors.New("the answer of a script in Redis is not understood")

// answers is the answer of append.lua.
type answers struct {
	results  []broker.Result
	replicas int      // how many have acknowledged it
	waited   error    // why that is not known
	streams  []string // if not nil, nothing was done: the request must name all these
}

// frees reports whether the request only frees memory.
func (q *request) frees() bool {
	return len(q.ops) > 0 && !slices.ContainsFunc(q.ops, func(op entry.Op) bool { return !op.Removes })
}

func (q *request) purges() bool {
	for i := range q.ops {
		if q.ops[i].Kind == broker.KindPurge {
			return true
		}
	}
	return false
}

// run executes the request on the server of rdb.
func (q *request) run(ctx context.Context, rdb *redis.Client, k *keys) (answers, error) {
	args := q.args(k)
	args[0], args[1] = "evalsha", appendSHA
	a, err := q.send(ctx, rdb, args)
	if code, _ := replyOf(err); code == "NOSCRIPT" {
		args[0], args[1] = "eval", appendScript
		a, err = q.send(ctx, rdb, args)
	}
	return a, err
}

func (q *request) send(ctx context.Context, rdb *redis.Client, args []any) (a answers, err error) {
	q.nonce.written = false
	cmd := redis.NewCmd(ctx, args...)
	if q.replicas == 0 {
		_ = rdb.Process(ctx, cmd)
	} else {
		// Both go over one connection: WAIT is about what that has written.
		pipe := rdb.Pipeline()
		_ = pipe.Process(ctx, cmd)
		wait := pipe.Do(ctx, "wait", q.replicas, q.timeout.Milliseconds())
		_, _ = pipe.Exec(ctx)
		a.replicas, a.waited = wait.Int()
	}
	reply, err := cmd.Slice()
	if err != nil {
		if q.replicas == 0 && cutShort(err) { // else only the WAIT behind it may be cut
			q.nonce.written = false
		}
		return answers{}, err
	}
	err = q.read(reply, &a)
	return a, err
}

// args returns the arguments of EVALSHA, which append.lua describes. The first two
// are for the caller to set.
func (q *request) args(k *keys) []any {
	var random [24]byte
	_, _ = rand.Read(random[:]) // never fails: it ends the process instead
	q.nonce = nonce{word: base64.RawURLEncoding.EncodeToString(random[:8])}

	var destinations []string // their streams' numbers, rules and owners, in turn
	numberOf := map[entry.Destination]string{}
	numbers := make([]string, len(q.ops)) // of the destination of each operation
	keyed, size := 0, 0
	for i := range q.ops {
		w := &q.ops[i]
		number, ok := numberOf[w.Destination]
		if !ok {
			number = strconv.Itoa(len(numberOf) + 1)
			numberOf[w.Destination] = number
			destinations = append(destinations, strconv.Itoa(q.stream(w.Destination.Stream)), w.Destination.RulesText(), w.Destination.OwnerText())
		}
		numbers[i] = number
		size += 2 + len(w.Args)
		if w.Key != "" {
			keyed++
		}
	}

	args := make([]any, 3, 34+2*len(q.streams)+len(destinations)+2*keyed+size)
	args = append(args, k.meta, k.state, k.value)
	for i := range k.idempotent {
		args = append(args, k.idempotent[i])
	}
	args = append(args, k.gone, k.closed, k.closing)
	for _, name := range q.streams {
		args = append(args, k.stream(name))
	}
	args[2] = len(args) - 3

	args = append(args, &q.nonce, hex.EncodeToString(random[8:]), q.flags(), len(q.streams))
	for _, name := range q.streams {
		args = append(args, name)
	}
	args = append(args, len(numberOf))
	for _, text := range destinations {
		args = append(args, text)
	}
	args = append(args, q.maxKeys, keyed)
	for i := range q.ops {
		if q.ops[i].Key != "" {
			args = append(args, q.ops[i].Key)
		}
	}
	for i := range q.ops {
		if q.ops[i].Key != "" {
			args = append(args, q.ops[i].Digest)
		}
	}
	for i := range q.ops {
		if mark := q.ops[i].Mark; mark != "" {
			args = append(args, mark)
		}
		args = append(args, q.ops[i].Code(numbers[i]))
		args = append(args, q.ops[i].Args...)
	}
	return args
}

// stream returns the number of a stream, which it adds to the keys if needed.
func (q *request) stream(name string) int {
	for i := range q.streams {
		if q.streams[i] == name {
			return i + 1
		}
	}
	q.streams = append(q.streams, name)
	return len(q.streams)
}

func (q *request) flags() (flags string) {
	if q.replicas > 0 {
		flags = "w"
	}
	if q.purges() {
		flags += "p"
	}
	if q.frees() {
		flags += "f"
	}
	return flags
}

// read reads the reply.
func (q *request) read(reply []any, a *answers) error {
	if len(reply) == 0 {
		return refusal("the reply of the script is empty")
	}
	head, _ := reply[0].(string)
	switch head {
	case "streams":
		for _, name := range reply[1:] {
			a.streams = append(a.streams, fmt.Sprint(name))
		}
		return nil
	case "format":
		return refusal(fmt.Sprintf("the log in Redis has format %v, and this version knows format 1: use another prefix, or a newer version", reply[1]))
	case "damaged":
		return refusal("the log in Redis is damaged: its meta hash has no newest entry that can be read")
	}
	ms, err := strconv.ParseUint(head, 10, 64)
	if err != nil || len(reply) != 1+len(q.ops) {
		return fmt.Errorf("the reply of the script is not understood: %d of %d results, %q", len(reply)-1, len(q.ops), head)
	}
	a.results = make([]broker.Result, len(q.ops))
	for i := range a.results {
		if err := readResult(&a.results[i], ms, reply[i+1]); err != nil {
			return err
		}
	}
	return nil
}

func readResult(r *broker.Result, ms uint64, reply any) error {
	switch reply := reply.(type) {
	case int64:
		r.ID = broker.ID{Ms: ms, N: uint64(reply)}
		return nil
	case []any:
		r.Err = broker.ErrStateMismatch
		r.State = readState(reply)
		return nil
	case string:
		if reply == "" {
			break
		}
		return readWord(r, ms, reply[0], reply[1:])
	}
	return fmt.Errorf("the result %v of the script is not understood", reply)
}

func readWord(r *broker.Result, ms uint64, letter byte, rest string) error {
	ok := true
	switch letter {
	case 'c':
		n, err := strconv.ParseUint(rest, 10, 64)
		r.ID, r.Created, ok = broker.ID{Ms: ms, N: n}, true, err == nil
	case 'u':
		r.Unchanged = true
		r.ID, ok = broker.ParseID(rest)
	case 'r':
		ok = readRepeated(r, rest)
	case 'x':
		r.Err = broker.ErrKeyReused
	case 't':
		r.Err = broker.ErrTooManyKeys
	case 'f':
		r.Err = broker.ErrStateFull
	case 'b':
		r.Err = broker.ErrTooManyBindings
	case 'd':
		r.Err = broker.ErrChannelClosed
	case 'n':
		r.Err = broker.ErrTooManyClosed
	case 'o':
		r.Err = broker.ErrNotReached
	default:
		ok = false
	}
	if !ok {
		return fmt.Errorf("the result %q of the script is not understood", string(letter)+rest)
	}
	return nil
}

// readRepeated reads "0" or "1", the id, and if the answer has a value a space and
// the value.
func readRepeated(r *broker.Result, s string) (ok bool) {
	if s == "" {
		return false
	}
	id, value, kept := strings.Cut(s[1:], " ")
	r.Repeated, r.Created = true, s[0] == '1'
	r.ID, ok = broker.ParseID(id)
	if kept {
		r.State = &broker.State{Value: []byte(value), Version: r.ID}
	}
	return ok
}

// readState reads the value of a channel that does not meet a condition: version,
// time, session and value, or nothing if there is none.
func readState(reply []any) *broker.State {
	var text [4]string
	for i := range min(len(reply), len(text)) {
		text[i], _ = reply[i].(string)
	}
	s := &broker.State{Session: text[2]}
	var ok bool
	if s.Version, ok = broker.ParseID(text[0]); !ok || text[3] == "" {
		return &broker.State{}
	}
	s.Written, _ = strconv.ParseUint(text[1], 10, 64)
	s.Value = []byte(text[3])
	return s
}
