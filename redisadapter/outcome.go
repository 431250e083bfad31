package redisadapter

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/internal/errkind"
)

// outcome is what became of a command that has failed.
type outcome uint8

const (
	// notDone: it was not executed. Another attempt may succeed.
	notDone outcome = iota
	// refused: it was not executed, and will not be until an operator does
	// something.
	refused
	// unknown: it may have been executed.
	unknown
)

// refusal is what append.lua answers when it cannot write to the log.
type refusal string

func (r refusal) Error() string { return string(r) }

// outcomeOf is the outcome of a command that has failed with err. written says
// whether the server may have received all of it.
func outcomeOf(err error, written bool) outcome {
	if _, is := errors.AsType[refusal](err); is {
		return refused
	}
	if code, _ := replyOf(err); code != "" {
		switch {
		case code == partial:
			return unknown
		case temporary[code] != "":
			return notDone
		}
		return refused
	}
	if !written {
		return notDone
	}
	return unknown
}

// cutShort reports whether a command failed while it was being written, so that
// the server has not received all of it.
func cutShort(err error) bool {
	op, is := errors.AsType[*net.OpError](err)
	return is && op.Op == "write"
}

// partial is the code of an error of append.lua after its first write.
const partial = "EVSPARTIAL"

// replyOf returns the code and the text of an error reply of Redis; "" if err is
// something else.
func replyOf(err error) (code, text string) {
	reply, is := errors.AsType[redis.Error](err)
	if !is {
		return "", ""
	}
	text = reply.Error()
	code, _, _ = strings.Cut(text, " ")
	switch {
	case strings.HasPrefix(text, "ERR max number of clients"):
		code = "MAXCLIENTS"
	case strings.Contains(text, "Protocol error: unauthenticated"):
		code = "NOAUTH" // the answer to a command of many words
	case code != partial && strings.Contains(text, "The user executing the script"):
		code = "NOPERM"
	}
	return code, text
}

// temporary has the meaning of the errors that pass by themselves.
var temporary = map[string]string{
	"MOVED":       "the keys lie on another node of the Cluster",
	"ASK":         "the keys are being moved to another node of the Cluster",
	"TRYAGAIN":    "the keys are being moved to another node of the Cluster",
	"CLUSTERDOWN": "the Cluster is down",
	"LOADING":     "Redis is loading its data",
	"READONLY":    "the server is a replica, and only the primary takes writes",
	"MASTERDOWN":  "the server is a replica that has lost its primary",
	"BUSY":        "Redis is busy with a script",
	"MAXCLIENTS":  "Redis has as many clients as its maxclients allows",
}

// permanent has the meaning of others, about which an operator can do something.
var permanent = map[string]string{
	"NOAUTH":     "Redis wants a password, and none is configured",
	"WRONGPASS":  "Redis does not accept the user name or the password",
	"NOPERM":     "the access rules of Redis deny the user what a log needs",
	"OOM":        "Redis is out of memory: raise its maxmemory, or keep less",
	"MISCONF":    "Redis takes no writes, because it cannot save its data",
	"NOREPLICAS": "Redis takes no writes, because it has fewer replicas than its min-replicas-to-write",
	partial:      "the script failed after it had begun to write",
	"WRONGTYPE":  "a key with the prefix of the log is not the log's: use another prefix",
}

// explain words an error for an operator.
func explain(err error) string {
	code, text := replyOf(err)
	switch {
	case code == "" && errors.Is(err, context.DeadlineExceeded):
		return "Redis does not answer (" + err.Error() + ")"
	case code == "":
		return err.Error()
	}
	meaning := temporary[code]
	if meaning == "" {
		meaning = permanent[code]
	}
	if meaning == "" {
		return "Redis answered: " + text
	}
	return meaning + " (" + text + ")"
}

// What clients are told when Redis has no room for what is published.
var (
	errMemory = errkind.Opaque("unavailable", "log", "the log is full: its Redis has no memory left")
	errDisk   = errkind.Opaque("unavailable", "log", "the log takes nothing: its Redis cannot write to its disk")
)

// noMemory reports whether Redis has refused a command because it has reached its
// maxmemory.
func noMemory(err error) bool {
	code, _ := replyOf(err)
	return code == "OOM"
}

// unavailable is the error of an operation that was not executed.
func unavailable(err error) error {
	switch code, _ := replyOf(err); code {
	case "OOM":
		return fmt.Errorf("%w (%w): %s", errMemory, broker.ErrUnavailable, explain(err))
	case "MISCONF":
		return fmt.Errorf("%w (%w): %s", errDisk, broker.ErrUnavailable, explain(err))
	}
	return fmt.Errorf("%w: %s", broker.ErrUnavailable, explain(err))
}
