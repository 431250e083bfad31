package evstream

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
	"github.com/evstream/caddy-evstream/sse"
)

// channelRules are what may be published to channels, in the order of the
// configuration: the first pattern that matches decides. They do not change
// once they are made.
type channelRules []channelRule

// channelRule is a ChannelConfig, as far as it is about what may be published.
type channelRule struct {
	pattern broker.Pattern
	types   []string           // nil: any
	schema  *jsonschema.Schema // nil: any data
}

// checkTypes reports event types that no event can have.
func (c *ChannelConfig) checkTypes() error {
	for i, typ := range c.EventTypes {
		if typ == "" {
			return errors.New("event_types: a type is empty: events without one are \"message\"")
		}
		if err := broker.CheckEvent(&sse.Event{Type: typ}); err != nil {
			return fmt.Errorf("event_types: %q: %w", typ, err)
		}
		if slices.Contains(c.EventTypes[:i], typ) {
			return fmt.Errorf("event_types: %q is named twice", typ)
		}
	}
	return nil
}

// channelRules reads what may be published to the broker's channels, schemas
// from their files.
func (c *BrokerConfig) channelRules() (channelRules, error) {
	var rules channelRules
	for i := range c.Channels {
		ch := &c.Channels[i]
		p, err := broker.ParsePattern(ch.Pattern)
		if err != nil {
			return nil, fmt.Errorf("channel: %w", err)
		}
		rule := channelRule{pattern: p, types: ch.EventTypes}
		if ch.Schema != "" {
			if rule.schema, err = compileSchema(ch.Schema); err != nil {
				return nil, fmt.Errorf("channel %s: schema %s: %w", ch.Pattern, ch.Schema, err)
			}
		}
		rules = append(rules, rule)
	}
	if !slices.ContainsFunc(rules, func(r channelRule) bool { return r.types != nil || r.schema != nil }) {
		return nil, nil
	}
	return rules, nil
}

const draft2020 = "https://json-schema.org/draft/2020-12/schema"

// compileSchema reads a JSON Schema of one file. It fetches nothing: what a
// schema refers to is in the file itself.
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

// noLoader loads nothing.
type noLoader struct{}

// Load implements jsonschema.URLLoader.
func (noLoader) Load(url string) (any, error) {
	return nil, fmt.Errorf("it refers to %s, and a schema has to be whole in its file", url)
}

// check reports why an event may not be published. One for all beneath a name
// has to fit wherever it may arrive.
func (rules channelRules) check(op *broker.Op) error {
	if op.Kind != broker.KindEvent {
		return nil
	}
	var value any // the data, once it is read
	for i := range rules {
		r := &rules[i]
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
					return badSchema.because("channel %q takes JSON that fits a schema, and the data is not JSON: %v", op.Channel, err)
				}
				if n := hugeNumber(value); n != "" {
					return badSchema.because("channel %q takes JSON that fits a schema, and the number %s is beyond all that are checked: at most %d bytes, and an exponent of at most %d", op.Channel, clip(n), maxNumber, maxExponent)
				}
			}
			if err := r.checkData(op, value); err != nil {
				return err
			}
		}
		if !broker.IsBeneath(op.Channel) {
			return nil
		}
	}
	return nil
}

// Bounds of the numbers that a schema is applied to, beyond those of a double.
// They are checked exactly, and a few bytes can be a number of megabytes.
const (
	maxNumber   = 1 << 10 // bytes, as it is written
	maxExponent = 1000
)

// hugeNumber finds a number in a JSON value that is out of bounds; "" is none.
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

func (r *channelRule) checkType(op *broker.Op) error {
	typ := op.Event.Type
	if typ == "" {
		typ = "message"
	}
	if r.types == nil || slices.Contains(r.types, typ) {
		return nil
	}
	return badType.because("channel %q takes no event of the type %q; the types of %s are %s",
		op.Channel, clip(typ), r.pattern, strings.Join(r.types, ", "))
}

func (r *channelRule) checkData(op *broker.Op, value any) error {
	err := r.schema.Validate(value)
	if err == nil {
		return nil
	}
	invalid, ok := errors.AsType[*jsonschema.ValidationError](err)
	if !ok {
		return badSchema.because("the data does not fit the schema of %s", r.pattern)
	}
	for len(invalid.Causes) > 0 { // the first, and of it the innermost
		invalid = invalid.Causes[0]
	}
	pointer := jsonPointer(invalid.InstanceLocation)
	p := badSchema.because("the data for channel %q does not fit the schema of %s: at %q: %s",
		op.Channel, r.pattern, clip(pointer), clipTo(invalid.ErrorKind.LocalizedString(inEnglish), 256))
	p.pointer = &pointer
	return p
}

var inEnglish = message.NewPrinter(language.English)

// jsonPointer spells a place in a JSON value as RFC 6901 does; the value itself
// is "".
func jsonPointer(tokens []string) string {
	var s strings.Builder
	for _, token := range tokens {
		s.WriteByte('/')
		s.WriteString(strings.NewReplacer("~", "~0", "/", "~1").Replace(token))
	}
	return s.String()
}
