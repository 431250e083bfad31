package evstream

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/evstream/caddy-evstream/internal/nearest"
)

// words are those with which a line of a block may begin, and where the block is.
type words struct {
	where string
	list  []string
	in    string // the block around it; "" for the handler's and the broker's own
}

// The words of the blocks, for errors.
var (
	handlerWords = words{"the handler, evstream { … } within a site", []string{
		"handoff", "record", "resume", "mount", "broker", "allow", "bearer", "console", "jwt", "cookie", "insecure_query_token", "caddy_auth", "tickets", "verify", "cors", "ignore_query",
		"heartbeat", "retry", "write_timeout", "max_age", "drain", "on_reload", "on_overload", "delivery", "max_body",
	}, ""}
	brokerWords = words{"the global option evstream { … }", []string{
		"adapter", "history", "channel", "on", "max_history", "max_connections", "max_connections_per_ip", "max_channels", "max_subscribers",
		"max_patterns", "share", "max_session_channels", "max_session_patterns", "max_connections_per_user", "connect_rate", "refused_rate",
		"read_rate", "publish_rate", "publish_bytes", "max_event", "max_states", "max_state_bytes",
	}, ""}
	hookWords     = words{"on <event…> <url> { … } of the global option evstream", []string{"secret", "channels"}, "broker"}
	channelWords  = words{"channel <pattern> { … } of the global option evstream", []string{"history", "event_types", "schema", "state_ttl", "key", "format", "presence", "presence_members", "presence_grace", "presence_meta"}, "broker"}
	jwtWords      = words{"jwt { … } of the handler", []string{"key", "jwks", "allow_private", "algorithms", "issuer", "audience", "leeway", "user_claim", "insecure_no_expiry"}, "handler"}
	ticketsWords  = words{"tickets { … } of the handler", []string{"lifetime", "key"}, "handler"}
	gripWords     = words{"handoff grip { … } of the handler", []string{"key", "sign_key", "iss", "publish"}, "handler"}
	recordWords   = words{"record <channel> { … } of the handler", []string{"on_active", "longest", "largest", "keep", "headers", "broken_event", "stopped_event"}, "handler"}
	verifyWords   = words{"verify <url> { … } of the handler", []string{"timeout", "cache", "forward", "allow_private"}, "handler"}
	boltWords     = words{"adapter bolt [<path>] { … } of the global option evstream", []string{"sync", "unsafe_no_sync", "retain", "max_size"}, "broker"}
	redisWords    = words{"adapter redis <url> { … } of the global option evstream", []string{"address", "username", "password", "db", "prefix", "sentinel", "cluster", "tls", "wait", "max_size", "live_age"}, "broker"}
	sentinelWords = words{"sentinel <master> { … } of adapter redis", []string{"username", "password"}, "broker"}
	tlsWords      = words{"tls { … } of adapter redis", []string{"ca", "certificate", "server_name"}, "broker"}
)

// allWords are all blocks, those first where a lost word most likely belongs.
func allWords() []words {
	return []words{handlerWords, brokerWords, jwtWords, channelWords, hookWords, ticketsWords, verifyWords, gripWords, recordWords, boltWords, redisWords, sentinelWords, tlsWords}
}

// hint says what was meant by a word that is none of w, where it belongs, or what w has.
func (w words) hint(word string) string {
	if h := nearest.Hint(word, w.list...); h != "" {
		return h
	}
	if w.in == "" && (word == "redis" || word == "memory" || word == "bolt") {
		return ": write adapter " + word + ", in " + brokerWords.where
	}
	for _, other := range allWords() {
		near := w.in == "" || other.in == "" || w.in == other.in
		if near && slices.Contains(other.list, word) {
			return ": it belongs in " + other.where
		}
	}
	return "; there is: " + strings.Join(w.list, ", ")
}

// unsetVariable explains an argument that is missing in the current line.
func unsetVariable(d *caddyfile.Dispenser) string {
	names := unsetIn(d.File(), d.Line())
	switch len(names) {
	case 0:
		return "; if it was a {$NAME}, that is not set in the environment of this command"
	case 1:
		return "; " + names[0] + " is not set in the environment of this command"
	}
	return "; " + strings.Join(names, ", ") + " are not set in the environment of this command"
}

// variable is what is replaced before a Caddyfile is read, so that no token has it.
var variable = regexp.MustCompile(`\{\$([^{}:\s]+)\}`)

// maxCaddyfile bounds what is read of a file to explain an error.
const maxCaddyfile = 1 << 20

// unsetIn returns the variables in a line of a file that are not set, as they are
// written. There are none if the file cannot be read, because its name is not that of
// one.
func unsetIn(name string, line int) (list []string) {
	file, err := os.Open(name) //nolint:gosec // the Caddyfile that is being read
	if err != nil {
		return nil
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, maxCaddyfile))
	if err != nil {
		return nil
	}
	lines := strings.Split(string(text), "\n")
	if line < 1 || line > len(lines) {
		return nil
	}
	for _, m := range variable.FindAllStringSubmatch(lines[line-1], -1) {
		if os.Getenv(m[1]) == "" {
			list = append(list, m[0])
		}
	}
	return list
}

// unsetHint explains a secret that is missing in the current line.
func unsetHint(d *caddyfile.Dispenser, args []string) string {
	if slices.ContainsFunc(args, func(s string) bool { return strings.ContainsAny(s, "{}") }) {
		return ""
	}
	return unsetVariable(d) + ". Write {env.NAME}, which the running Caddy reads"
}

// shellVariable is what a shell would replace, and Caddy does not.
var shellVariable = regexp.MustCompile(`^\$\{?([A-Z][A-Z0-9_]*)\}?$`)

// notLiteral refuses what was hardly meant to be the secret itself: the name of a
// variable, or the path of a file.
func notLiteral(d *caddyfile.Dispenser, what, secret string) error {
	if m := shellVariable.FindStringSubmatch(secret); m != nil {
		return d.Errf("%s would be the text %s: write {env.%s}, which the running Caddy reads", what, m[0], m[1])
	}
	if strings.HasPrefix(secret, "/") && slices.Contains([]string{".pem", ".key", ".pub", ".crt", ".jwk", ".json", ".txt"}, filepath.Ext(secret)) {
		return d.Errf("%s would be the text %s: write {file.%s} to read the file", what, secret, secret)
	}
	return nil
}

// once holds the first word of each line that was read.
type once map[string]caddyfile.Token

// check returns an error if the current subdirective was read before.
func (o once) check(d *caddyfile.Dispenser) error {
	if before, ok := o[d.Val()]; ok {
		return d.Errf("%s is given twice, first in line %d", d.Val(), before.Line)
	}
	o[d.Val()] = d.Token()
	return nil
}

// note is check for what may be repeated.
func (o once) note(d *caddyfile.Dispenser) {
	if _, ok := o[d.Val()]; !ok {
		o[d.Val()] = d.Token()
	}
}

// errorOf returns err at the line with whose word it begins, or else at the opening.
func (o once) errorOf(opening caddyfile.Token, format string, err error) error {
	text := err.Error()
	end := strings.IndexFunc(text, func(c rune) bool { return c != '_' && (c < 'a' || c > 'z') })
	if end > 0 {
		if at, ok := o[text[:end]]; ok {
			opening = at
		}
	}
	return errorAt(opening, format, err)
}

// noBlock returns an error if more arguments or a block follow.
func noBlock(d *caddyfile.Dispenser, name caddyfile.Token) error {
	if d.NextArg() {
		return d.Errf("unexpected argument %q of %s", d.Val(), name.Text)
	}
	if d.NextBlock(d.Nesting()) {
		return errorAt(name, "%s has no block", name.Text)
	}
	return nil
}

// errorAt returns an error with the file and line of an earlier token.
func errorAt(at caddyfile.Token, format string, args ...any) error {
	d := caddyfile.NewDispenser([]caddyfile.Token{at})
	d.Next()
	return d.Errf(format, args...)
}

// block calls read for each line of a subdirective's block, and returns where the
// lines are. Only lines that begin with a word of repeated may be repeated.
func block(d *caddyfile.Dispenser, of string, repeated []string, read func(name string) error) (once, error) {
	if d.NextArg() {
		return nil, d.Errf("unexpected argument %q of %s: its options stand in a block, %s { … }", d.Val(), of, of)
	}
	seen := make(once)
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		name := d.Token()
		if slices.Contains(repeated, d.Val()) {
			seen.note(d)
		} else if err := seen.check(d); err != nil {
			return seen, err
		}
		if err := read(d.Val()); err != nil {
			return seen, err
		}
		if err := noBlock(d, name); err != nil {
			return seen, err
		}
	}
	return seen, nil
}

// oneArg reads the argument that follows, which must be one: what says which, with an
// example.
func oneArg(d *caddyfile.Dispenser, to *string, what string) error {
	name := d.Val()
	args := d.RemainingArgs()
	switch {
	case len(args) > 1:
		return d.Errf("%s takes %s, and no more: %q", name, what, args[1:])
	case len(args) == 0 || args[0] == "":
		return d.Errf("%s takes %s%s", name, what, unsetVariable(d))
	}
	*to = args[0]
	return nil
}

// oneSecret is oneArg for a secret, which is read when Caddy runs.
func oneSecret(d *caddyfile.Dispenser, to *string, what, like string) error {
	name := d.Val()
	args := d.RemainingArgs()
	if len(args) != 1 || args[0] == "" {
		return d.Errf("%s takes one secret, such as %s%s", name, like, unsetHint(d, args))
	}
	*to = args[0]
	return notLiteral(d, what, args[0])
}

// someArgs reads the arguments that follow, at least one.
func someArgs(d *caddyfile.Dispenser, to *[]string, what string) error {
	name := d.Val()
	if *to = d.RemainingArgs(); len(*to) == 0 {
		return d.Errf("%s takes %s%s", name, what, unsetVariable(d))
	}
	return nil
}

// oneOf reads the argument that follows, which must be one of the words.
func oneOf(d *caddyfile.Dispenser, to *string, list ...string) error {
	name, allowed := d.Val(), strings.Join(list[:len(list)-1], ", ")+" or "+list[len(list)-1]
	args := d.RemainingArgs()
	if len(args) != 1 {
		return d.Errf("%s is %s", name, allowed)
	}
	if !slices.Contains(list, args[0]) {
		return d.Errf("%s is %s, not %q", name, allowed, args[0])
	}
	*to = args[0]
	return nil
}

// orWords lists words that may stand in place of something.
func orWords(list []string) string {
	var s strings.Builder
	for _, word := range list {
		fmt.Fprintf(&s, ", or %q", word)
	}
	return s.String()
}
