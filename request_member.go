package evstream

import (
	"bytes"
	"encoding/json"
	"strings"
)

const ourPrefix = "evstream." // of placeholders that are not Caddy's

// bodyPrefix is how placeholders begin that are a member of a request's JSON body, such as
// evstream.body.id.
const bodyPrefix = ourPrefix + "body."

// jsonMember is a string or a whole number in JSON text: the member of an object that a
// path names, with dots between the names. It is false if there is none, and if there are
// two: the application might take the other one.
func jsonMember(text []byte, path string) (string, bool) {
	for name := range strings.SplitSeq(path, ".") {
		var ok bool
		if text, ok = oneMember(text, name); !ok {
			return "", false
		}
	}
	var s string
	if json.Unmarshal(text, &s) == nil {
		return s, true
	}
	s = string(text)
	digits := strings.TrimPrefix(s, "-")
	return s, digits != "" && strings.Trim(digits, "0123456789") == ""
}

func oneMember(text []byte, name string) (value json.RawMessage, found bool) {
	d := json.NewDecoder(bytes.NewReader(text))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return nil, false
	}
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return nil, false
		}
		var v json.RawMessage
		if err := d.Decode(&v); err != nil {
			return nil, false
		}
		if key == name {
			if found {
				return nil, false
			}
			value, found = v, true
		}
	}
	_, err := d.Token() // the brace that ends it
	return value, found && err == nil
}
