package hub

import (
	"bytes"
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
	"github.com/evstream/caddy-evstream/problem"
	"github.com/evstream/caddy-evstream/sse"
)

// PublishRule says what may be published to the channels that match a pattern.
type PublishRule struct {
	// Pattern matches the channels.
	Pattern string
	// Types are the types of events that may be published; "message" is the type of
	// events without one. Default: any.
	Types []string
	// Schema is the path of a file with a JSON Schema (2020-12) that the data of
	// each event must fit. References must stay within the file: nothing is fetched.
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
	types   []string           // nil: any
	schema  *jsonschema.Schema // nil: any data
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
			if read.schema, err = compileSchema(r.Schema); err != nil {
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

// compileSchema reads the JSON Schema in a file. References out of the file are an
// error: nothing is fetched.
func compileSchema(file string) (*jsonschema.Schema, error) {
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
	compiler := jsonschema.NewCompiler()
	compiler.DefaultDraft(jsonschema.Draft2020)
	compiler.UseLoader(noLoader{})
	const name = "evstream:///schema.json" // a base that relative references are resolved against
	if err := compiler.AddResource(name, doc); err != nil {
		return nil, err
	}
	return compiler.Compile(name)
}

// noLoader refuses to load any URL.
type noLoader struct{}

// Load implements jsonschema.URLLoader.
func (noLoader) Load(url string) (any, error) {
	return nil, fmt.Errorf("it refers to %s, and a schema has to be whole in its file", url)
}

// CheckRules checks operations against the publish rules. The error is a
// *broker.OpError about the first that is refused; it is counted as a refusal.
func (h *Hub) CheckRules(ops []broker.Op) error {
	rules := h.limits.rules.Load()
	for i := range ops {
		if err := rules.check(&ops[i]); err != nil {
			h.refusedPublish(err)
			return &broker.OpError{Index: i, Err: err}
		}
	}
	return nil
}

// check reports why an event may not be published. One that is published to
// everything beneath a name must fit all channels that it may reach.
func (p *PublishRules) check(op *broker.Op) error {
	if p == nil || op.Kind != broker.KindEvent {
		return nil
	}
	var value any // the data, once it is read
	for i := range p.rules {
		r := &p.rules[i]
		if !r.pattern.Match(op.Channel) {
			continue
		}
		if err := r.checkType(op); err != nil {
			return err
		}
		if r.schema != nil {
			if value == nil {
				var err error
				if value, err = jsonschema.UnmarshalJSON(bytes.NewReader(op.Event.Data)); err != nil {
					return refuseEvent(problem.Schema, "schema", "channel %q takes JSON that fits a schema, and the data is not JSON: %v", op.Channel, err)
				}
				if n := hugeNumber(value); n != "" {
					return refuseEvent(problem.Schema, "schema", "channel %q takes JSON that fits a schema, and the number %s is beyond all that are checked: at most %d bytes, and an exponent of at most %d", op.Channel, problem.Clip(n), maxNumber, maxExponent)
				}
			}
			if err := r.checkData(op, value); err != nil {
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
func (r *publishRule) checkType(op *broker.Op) error {
	typ := op.Event.Type
	if typ == "" {
		typ = "message"
	}
	if r.types == nil || slices.Contains(r.types, typ) {
		return nil
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

// checkData reports why the data of an event does not fit the schema: the first
// cause, and of that the innermost.
func (r *publishRule) checkData(op *broker.Op, value any) error {
	err := r.schema.Validate(value)
	if err == nil {
		return nil
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
