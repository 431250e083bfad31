package hub

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"golang.org/x/text/language"
	"golang.org/x/text/message"

	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/channel"
	"github.com/evstream/caddy-evstream/internal/jsonvalue"
	"github.com/evstream/caddy-evstream/problem"
	"github.com/evstream/caddy-evstream/sse"
)

// PublishRule says what may be published to the channels that match a pattern.
type PublishRule struct {
	// Pattern matches the channels.
	Pattern string
	// Types are the types of events that may be published; "message" is the type of
	// events without one, and the type of a value is the name of its channel.
	// Default: any.
	Types []string
	// Schema is the path of a file with a JSON Schema (2020-12) that the data of
	// each event, and each value, must fit. References must stay within the file: nothing is fetched.
	// Default: any data.
	Schema string
}

// PublishRules say what may be published to channels. The first rule whose pattern
// matches decides. They do not change once they are made, and are safe for
// concurrent use. A nil *PublishRules allows everything.
type PublishRules struct{ rules []publishRule }

// publishRule is a parsed PublishRule.
type publishRule struct {
	pattern channel.Pattern
	types   []string  // nil: any
	schema  *checkers // nil: any data
	unique  bool      // schema has uniqueItems somewhere
}

// CheckEventTypes checks PublishRule.Types: the error names the first that no event
// can have, or that is there twice.
func CheckEventTypes(types []string) error {
	for i, typ := range types {
		if typ == "" {
			return errors.New("event_types: a type is empty: events without one are \"message\"")
		}
		if err := broker.CheckEvent(&sse.Event{Type: typ}); err != nil {
			return fmt.Errorf("event_types: %q: %w", typ, err)
		}
		if slices.Contains(types[:i], typ) {
			return fmt.Errorf("event_types: %q is named twice", typ)
		}
	}
	return nil
}

// NewPublishRules parses rules, and reads their schemas from the files. It returns
// nil and no error where the rules refuse nothing.
func NewPublishRules(list []PublishRule) (*PublishRules, error) {
	rules := new(PublishRules)
	for _, r := range list {
		p, err := channel.ParsePattern(r.Pattern)
		if err != nil {
			return nil, fmt.Errorf("channel: %w", err)
		}
		if err := CheckEventTypes(r.Types); err != nil {
			return nil, fmt.Errorf("channel %s: %w", r.Pattern, err)
		}
		read := publishRule{pattern: p, types: r.Types}
		if r.Schema != "" {
			if err = read.compile(r.Schema); err != nil {
				return nil, fmt.Errorf("channel %s: schema %s: %w", r.Pattern, r.Schema, err)
			}
		}
		rules.rules = append(rules.rules, read)
	}
	if !slices.ContainsFunc(rules.rules, func(r publishRule) bool { return r.types != nil || r.schema != nil }) {
		return nil, nil
	}
	return rules, nil
}

const draft2020 = "https://json-schema.org/draft/2020-12/schema"

// compile reads the JSON Schema in a file.
func (r *publishRule) compile(file string) error {
	doc, err := readSchema(file)
	if err != nil {
		return err
	}
	first, err := compileDoc(doc)
	if err != nil {
		return err
	}
	r.schema, r.unique = &checkers{doc: doc, free: []*checker{first}}, hasUniqueItems(doc)
	return nil
}

// readSchema reads the JSON Schema in a file.
func readSchema(file string) (any, error) {
	data, err := os.ReadFile(file) //nolint:gosec // the configuration names it, not a request
	if err != nil {
		return nil, err
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("it is not JSON: %w", err)
	}
	if object, ok := doc.(map[string]any); ok {
		if draft, given := object["$schema"]; given && strings.TrimSuffix(fmt.Sprint(draft), "#") != draft2020 {
			return nil, fmt.Errorf("its $schema is %v, and only %s is served", draft, draft2020)
		}
	}
	return doc, nil
}

// compileDoc compiles a JSON Schema. References out of it are an error: nothing is
// fetched. misfit is the schema of all data that does not fit: asked for that, the
// validator leaves an object at its first error and describes none, where with schema
// itself it describes all of them.
func compileDoc(doc any) (*checker, error) {
	c := &checker{steps: new(stepCount)}
	compiler := jsonschema.NewCompiler()
	compiler.DefaultDraft(jsonschema.Draft2020)
	compiler.UseLoader(noLoader{})
	compiler.RegisterVocabulary(c.steps.vocabulary())
	compiler.AssertVocabs()
	const name = "evstream:///schema.json" // a base that relative references are resolved against
	if err := compiler.AddResource(name, doc); err != nil {
		return nil, err
	}
	var err error
	if c.schema, err = compiler.Compile(name); err != nil {
		return nil, err
	}
	const negation = "evstream:///misfit.json"
	if err := compiler.AddResource(negation, map[string]any{"not": map[string]any{"$ref": name}}); err != nil {
		return nil, err
	}
	c.misfit, err = compiler.Compile(negation)
	return c, err
}

// noLoader refuses to load any URL.
type noLoader struct{}

// Load implements jsonschema.URLLoader.
func (noLoader) Load(url string) (any, error) {
	return nil, fmt.Errorf("it refers to %s, and a schema has to be whole in its file", url)
}

// CheckRules checks operations against the publish rules. The error is a
// *broker.OpError about the first that is refused; it is counted as a refusal.
// Checks against schemas wait for their turn, at most until ctx ends.
func (h *Hub) CheckRules(ctx context.Context, ops []broker.Op) error {
	rules, turns := h.limits.rules.Load(), h.limits.schemaTurns
	for i := range ops {
		err := h.checkSize(&ops[i]) // before anything reads the data
		switch {
		case err != nil:
		case !rules.hasSchema(&ops[i]):
			err = rules.check(&ops[i])
		default:
			if err = turns.acquire(ctx); err == nil {
				err = rules.checkInTurn(turns, &ops[i])
			}
		}
		if err != nil {
			h.refusedPublish(err)
			return &broker.OpError{Index: i, Err: err}
		}
	}
	return nil
}

// RulesWait reports whether CheckRules would have to wait now, before it checks
// operations.
func (h *Hub) RulesWait(ops []broker.Op) bool {
	if !h.limits.schemaTurns.taken() {
		return false
	}
	rules := h.limits.rules.Load()
	return slices.ContainsFunc(ops, func(op broker.Op) bool { return rules.hasSchema(&op) })
}

// checkInTurn is check with a turn, which it ends.
func (p *PublishRules) checkInTurn(turns *schemaTurns, op *broker.Op) error {
	defer turns.release()
	return p.check(op)
}

// hasSchema reports whether check may check an operation against a schema.
func (p *PublishRules) hasSchema(op *broker.Op) bool {
	return p != nil && slices.ContainsFunc(p.rules, func(r publishRule) bool { return r.schema != nil && r.pattern.Match(op.Channel) })
}

// checkSize reports why an event is too large; values have a bound of their own, which
// check holds to.
func (h *Hub) checkSize(op *broker.Op) error {
	if !op.HasEvent() {
		return nil
	}
	return h.broker.CheckSize(&op.Event)
}

// check reports why an event or a value may not be published. One that is published to
// everything beneath a name must fit all channels that it may reach.
func (p *PublishRules) check(op *broker.Op) error {
	if p == nil {
		return nil
	}
	typ, data := op.Event.Type, op.Event.Data
	switch {
	case op.Kind == broker.KindState && op.State != nil && op.State.Value != nil:
		var err error
		if data, err = jsonvalue.Compact(op.State.Value, broker.MaxState); err != nil {
			return nil //nolint:nilerr // the broker refuses it, and says so in its own words
		}
		typ = op.Channel // that of the event that tells it
	case !op.HasEvent():
		return nil
	}
	var value any // the data, once it is read
	for i := range p.rules {
		r := &p.rules[i]
		if !r.pattern.Match(op.Channel) {
			continue
		}
		if err := r.checkType(op, typ); err != nil {
			return err
		}
		if r.schema != nil {
			if value == nil {
				var err error
				if value, err = jsonschema.UnmarshalJSON(bytes.NewReader(data)); err != nil {
					return refuseEvent(problem.Schema, "schema", "channel %q takes JSON that fits a schema, and the data is not JSON: %v", op.Channel, err)
				}
				if repeatsMember(data, value) {
					return refuseEvent(problem.Schema, "schema", "channel %q takes JSON that fits a schema, and in the data an object has a member twice: which of them counts is not for a guess", op.Channel)
				}
				if n := hugeNumber(value); n != "" {
					return refuseEvent(problem.Schema, "schema", "channel %q takes JSON that fits a schema, and the number %s is beyond all that are checked: at most %d bytes, and an exponent of at most %d", op.Channel, problem.Clip(n), maxNumber, maxExponent)
				}
			}
			if r.unique && hasLongArray(value) {
				return refuseEvent(problem.Schema, "schema", "the schema of %s has uniqueItems, and the data for channel %q has an array with more arrays and objects in it than are compared: it may have at most %d arrays and objects", r.pattern, op.Channel, maxUnique)
			}
			if err := r.checkData(op, data, value); err != nil {
				return err
			}
		}
		if !channel.IsBeneath(op.Channel) {
			return nil
		}
	}
	return nil
}

// Bounds of the numbers in data that is checked against a schema; every float64 is
// within them. The validator computes exactly, and a number of a few bytes, such as
// 1e999999, would take megabytes.
const (
	maxNumber   = 1 << 10 // bytes, as it is written
	maxExponent = 1000
)

// hugeNumber returns a number in a JSON value that is out of bounds; "" if there is
// none.
func hugeNumber(value any) string {
	switch v := value.(type) {
	case json.Number:
		i := strings.IndexAny(v.String(), "eE")
		exponent, err := strconv.Atoi(v.String()[i+1:])
		if len(v) > maxNumber || i >= 0 && (err != nil || exponent > maxExponent || exponent < -maxExponent) {
			return v.String()
		}
	case []any:
		for _, element := range v {
			if n := hugeNumber(element); n != "" {
				return n
			}
		}
	case map[string]any:
		for _, member := range v {
			if n := hugeNumber(member); n != "" {
				return n
			}
		}
	}
	return ""
}

// checkType reports why an event of that type may not be published.
func (r *publishRule) checkType(op *broker.Op, typ string) error {
	if typ == "" {
		typ = "message"
	}
	if r.types == nil || slices.Contains(r.types, typ) {
		return nil
	}
	if op.Kind == broker.KindState {
		return refuseEvent(problem.EventType, "event_types", "channel %q takes no value: its event would have the channel's name as its type, and the types of %s are %s",
			op.Channel, r.pattern, strings.Join(r.types, ", "))
	}
	return refuseEvent(problem.EventType, "event_types", "channel %q takes no event of the type %q; the types of %s are %s",
		op.Channel, problem.Clip(typ), r.pattern, strings.Join(r.types, ", "))
}

// refuseEvent makes the problem of an event that a rule refuses.
func refuseEvent(kind problem.Kind, reason, format string, args ...any) *problem.Error {
	p := kind.Because(format, args...)
	p.Reason = reason
	return p
}

// maxExplained bounds the data of which it is said where it does not fit: to say it, the
// validator collects all errors, which take many times the memory of the data.
const maxExplained = 8 << 10

// checkData reports why the data of an event does not fit the schema: the first
// cause, and of that the innermost.
func (r *publishRule) checkData(op *broker.Op, data []byte, value any) error {
	check, err := r.schema.acquire()
	if err != nil {
		return fmt.Errorf("compiling the schema of %s: %w", r.pattern, err)
	}
	defer r.schema.release(check)
	// Whether it does not fit its opposite is decided without collecting errors.
	misfits, ended := check.validate(check.misfit, value, len(data))
	if ended && misfits != nil {
		return nil
	}
	if ended && len(data) > maxExplained {
		return refuseEvent(problem.Schema, "schema", "the data for channel %q does not fit the schema of %s; of data of at most %d bytes it is said where", op.Channel, r.pattern, maxExplained)
	}
	if ended {
		err, ended = check.validate(check.schema, value, len(data))
	}
	if !ended {
		return refuseEvent(problem.Schema, "schema", "to check the data for channel %q against the schema of %s takes more than the %d steps that are taken for its size", op.Channel, r.pattern, baseSteps+byteSteps*len(data))
	}
	invalid, ok := errors.AsType[*jsonschema.ValidationError](err)
	if !ok {
		return refuseEvent(problem.Schema, "schema", "the data does not fit the schema of %s", r.pattern)
	}
	for len(invalid.Causes) > 0 {
		invalid = invalid.Causes[0]
	}
	pointer := jsonPointer(invalid.InstanceLocation)
	p := refuseEvent(problem.Schema, "schema", "the data for channel %q does not fit the schema of %s: at %q: %s",
		op.Channel, r.pattern, problem.Clip(pointer), problem.ClipTo(invalid.ErrorKind.LocalizedString(inEnglish), 256))
	p.Pointer = &pointer
	return p
}

var inEnglish = message.NewPrinter(language.English)

// jsonPointer is the JSON Pointer (RFC 6901) of a place in a value; "" is the whole
// value.
func jsonPointer(tokens []string) string {
	var s strings.Builder
	for _, token := range tokens {
		s.WriteByte('/')
		s.WriteString(strings.NewReplacer("~", "~0", "/", "~1").Replace(token))
	}
	return s.String()
}
