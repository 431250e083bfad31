// Package jsonbody reads JSON that requests bring, and says in problems what is wrong
// with it.
package jsonbody

import (
	"bytes"
	"encoding/json"
	"fmt"
	"unicode/utf8"

	"github.com/evstream/caddy-evstream/internal/jsonvalue"
	"github.com/evstream/caddy-evstream/problem"
)

// First returns the first n elements of a JSON array, and nil for any other value.
// The elements after them are not decoded, because decoded they would take many
// times their bytes in the body.
func First(n int, array []byte) []json.RawMessage {
	dec := json.NewDecoder(bytes.NewReader(array))
	if open, err := dec.Token(); err != nil || open != json.Delim('[') {
		return nil
	}
	var first []json.RawMessage
	for len(first) < n && dec.More() {
		var element json.RawMessage
		if dec.Decode(&element) != nil {
			return nil
		}
		first = append(first, element)
	}
	return first
}

// Decode decodes a body that must be one JSON value in UTF-8.
func Decode(body []byte, v any) error {
	if !utf8.Valid(body) {
		return problem.BadBody.Because("the body is not UTF-8 text")
	}
	if len(bytes.TrimSpace(body)) == 0 {
		return problem.BadBody.Because("the body is empty; it should be JSON")
	}
	if err := json.Unmarshal(body, v); err != nil {
		return problem.BadBody.Because("%s", explain(err))
	}
	return nil
}

// DecodeObject decodes a body that must be one JSON object, nil for null. A member that
// is there twice is an error: which of the two counts is not for a guess.
func DecodeObject[V any](body []byte) (map[string]V, error) {
	var members map[string]V
	if err := Decode(body, &members); err != nil {
		return nil, err
	}
	if membersOf(body) == len(members) {
		return members, nil
	}
	seen := make(map[string]bool, len(members))
	dec := json.NewDecoder(bytes.NewReader(body))
	_, _ = dec.Token()
	for dec.More() {
		token, _ := dec.Token()
		name, _ := token.(string)
		if seen[name] {
			return nil, problem.BadBody.Because("the member %q is there twice", problem.Clip(name))
		}
		seen[name] = true
		var value json.RawMessage
		if dec.Decode(&value) != nil {
			break
		}
	}
	return nil, problem.BadBody.Because("a member is there twice")
}

// membersOf counts the members of an object, which is valid JSON.
func membersOf(object []byte) (n int) {
	for i, depth := 0, 0; i < len(object); i++ {
		switch object[i] {
		case '"':
			for i++; object[i] != '"'; i++ {
				if object[i] == '\\' {
					i++
				}
			}
		case '{', '[':
			depth++
		case '}', ']':
			depth--
		case ':':
			if depth == 1 {
				n++
			}
		}
	}
	return n
}

// explain describes an error of package json without the names of Go types.
func explain(err error) string {
	switch err := err.(type) { //nolint:errorlint // json wraps neither
	case *json.SyntaxError:
		return fmt.Sprintf("the JSON is malformed at byte %d: %s", err.Offset, err)
	case *json.UnmarshalTypeError:
		return fmt.Sprintf("an event is an object, not %s", err.Value)
	}
	return "the body is not JSON that can be read"
}

// Text decodes a JSON string. A lone surrogate is an error, because json would
// replace it by U+FFFD.
func Text(name string, raw json.RawMessage) (string, error) {
	var s string
	if json.Unmarshal(raw, &s) != nil {
		return "", problem.BadBody.Because("%s is a string, not %s", name, problem.Clip(string(raw)))
	}
	if jsonvalue.HalfSurrogate(raw) {
		return "", problem.BadBody.Because("%s has half of a surrogate pair, which is no character", name)
	}
	return s, nil
}
