package jsonbody

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestAnObjectHasEachMemberOnce(t *testing.T) {
	for body, want := range map[string]string{
		`{}`: "", ` null `: "", `{"a":1}`: "", `{"a":{"b":1,"b":2},"c":[{"a":1},{"a":1}]}`: "", `{"a":"b\":c","\\":1}`: "",
		`{"a":1,"a":1}`: `"a"`, `{"a":1,"b":{"a":2},"\u0061":{"x":1}}`: `"a"`, `{"":1,"":2}`: `""`,
		`{"a":1,"` + strings.Repeat("x", 999) + `":1,"` + strings.Repeat("x", 999) + `":1}`: "…",
		`[]`: "not array", `{"a":1`: "malformed", "{\"a\":\"\xff\"}": "UTF-8",
	} {
		_, err := DecodeObject[json.RawMessage]([]byte(body))
		if (err != nil) != (want != "") || err != nil && (!strings.Contains(err.Error(), want) || len(err.Error()) > 300) {
			t.Errorf("%s: %v, want %q", body, err, want)
		}
	}
}
