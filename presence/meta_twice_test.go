package presence

import (
	"errors"
	"strings"
	"testing"
)

// Metadata with a member twice would be another thing to each reader, so it is refused,
// in whatever depth, and also where the names are equal only once they are decoded.
func TestMetadataHasNoMemberTwice(t *testing.T) {
	for text, member := range map[string]string{
		`{"status":"away","status":"here"}`:         "status",
		`{"a":{"b":1,"b":2}}`:                       "b",
		`{"status":"away","\u0073tatus":"here"}`:    "status",
		`{"list":[{"x":1},{"x":1,"y":2,"x":null}]}`: "x",
	} {
		_, err := CheckMeta([]byte(text))
		if !errors.Is(err, ErrMeta) || !strings.Contains(err.Error(), member) || !strings.HasSuffix(err.Error(), "is there twice") {
			t.Errorf("%s: %v", text, err)
		}
	}
}
