package jsonvalue

import (
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"
)

// The published test cases of RFC 6902.
func TestPublishedCasesOfJSONPatch(t *testing.T) {
	for _, file := range []string{"testdata/json_patch_tests.json", "testdata/json_patch_spec_tests.json"} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var cases []struct {
			Comment              string
			Doc, Patch, Expected json.RawMessage
			Error                string
			Disabled             bool
		}
		if err := json.Unmarshal(text, &cases); err != nil {
			t.Fatal(err)
		}
		run := 0
		for _, c := range cases {
			if c.Doc == nil || c.Disabled {
				continue
			}
			run++
			name := c.Comment + c.Error + " " + string(c.Patch)
			doc := parse(t, string(c.Doc))
			patch, err := ParsePatch(c.Patch)
			var got *Value
			if err == nil {
				got, err = patch.Apply(doc)
			}
			switch {
			case c.Error != "" && err == nil:
				t.Errorf("%s: got %s, want an error", name, got)
			case c.Error != "":
			case err != nil:
				t.Errorf("%s: %v", name, err)
			case c.Expected != nil && !Equal(got, parse(t, string(c.Expected))):
				t.Errorf("%s: got %s, want %s", name, got, c.Expected)
			}
		}
		if run < 15 {
			t.Errorf("%s has %d cases", file, run)
		}
	}
}

// The published test cases of RFC 7396, appendix A.
func TestPublishedCasesOfMergePatch(t *testing.T) {
	for _, c := range [][3]string{
		{`{"a":"b"}`, `{"a":"c"}`, `{"a":"c"}`},
		{`{"a":"b"}`, `{"b":"c"}`, `{"a":"b","b":"c"}`},
		{`{"a":"b"}`, `{"a":null}`, `{}`},
		{`{"a":"b","b":"c"}`, `{"a":null}`, `{"b":"c"}`},
		{`{"a":["b"]}`, `{"a":"c"}`, `{"a":"c"}`},
		{`{"a":"c"}`, `{"a":["b"]}`, `{"a":["b"]}`},
		{`{"a":{"b":"c"}}`, `{"a":{"b":"d","c":null}}`, `{"a":{"b":"d"}}`},
		{`{"a":[{"b":"c"}]}`, `{"a":[1]}`, `{"a":[1]}`},
		{`["a","b"]`, `["c","d"]`, `["c","d"]`},
		{`{"a":"b"}`, `["c"]`, `["c"]`},
		{`{"a":"foo"}`, `null`, `null`},
		{`{"a":"foo"}`, `"bar"`, `"bar"`},
		{`{"e":null}`, `{"a":1}`, `{"e":null,"a":1}`},
		{`[1,2]`, `{"a":"b","c":null}`, `{"a":"b"}`},
		{`{}`, `{"a":{"bb":{"ccc":null}}}`, `{"a":{"bb":{}}}`},
	} {
		if got := Merge(parse(t, c[0]), parse(t, c[1])).String(); got != c[2] {
			t.Errorf("%s with %s is %s, want %s", c[0], c[1], got, c[2])
		}
	}
	if got := Merge(nil, parse(t, `{"a":1,"b":{"c":null,"d":2}}`)).String(); got != `{"a":1,"b":{"d":2}}` {
		t.Errorf("of nothing it makes %s", got)
	}
	if got := Merge(parse(t, `{"a":1.0,"b":9223372036854775808}`), parse(t, `{"a":0.10}`)).String(); got != `{"a":0.10,"b":9223372036854775808}` {
		t.Errorf("the digits are not kept: %s", got)
	}
}

func TestAPatchThatFailsSaysWhere(t *testing.T) {
	for name, row := range map[string]struct {
		doc, patch string
		kind       error
		op         int
		path, says string
	}{
		"no array":           {`1`, `{}`, ErrPatch, -1, "", "array of operations"},
		"no operation":       {`1`, `[1]`, ErrPatch, 0, "", "an operation is an object"},
		"no op":              {`1`, `[{"path":"/a"}]`, ErrPatch, 0, "/a", `there is no "op"`},
		"an unknown op":      {`1`, `[{"op":"test","path":"","value":1},{"op":"spam","path":"/a"}]`, ErrPatch, 1, "/a", `"spam" is no operation`},
		"no path":            {`1`, `[{"op":"add","value":1}]`, ErrPatch, 0, "", `there is no "path"`},
		"a path that is 1":   {`1`, `[{"op":"add","path":1,"value":1}]`, ErrPatch, 0, "", `"path" is a string`},
		"no value":           {`{}`, `[{"op":"add","path":"/a"}]`, ErrPatch, 0, "/a", `and there is none`},
		"no from":            {`{}`, `[{"op":"copy","path":"/a"}]`, ErrPatch, 0, "/a", `there is no "from"`},
		"a path without /":   {`{}`, `[{"op":"remove","path":"a"}]`, ErrPatch, 0, "a", "does not begin with /"},
		"a bad escape":       {`{}`, `[{"op":"remove","path":"/a~2"}]`, ErrPatch, 0, "/a~2", "neither ~0 nor ~1"},
		"into itself":        {`{"a":{}}`, `[{"op":"move","from":"/a","path":"/a/b"}]`, ErrPatch, 0, "/a/b", "into itself"},
		"a missing member":   {`{"a":{}}`, `[{"op":"remove","path":"/a/b"}]`, ErrMissing, 0, "/a/b", "there is no /a/b"},
		"a missing parent":   {`{}`, `[{"op":"add","path":"/a/b","value":1}]`, ErrMissing, 0, "/a/b", "there is no /a"},
		"a number's member":  {`{"a":1}`, `[{"op":"add","path":"/a/b","value":1}]`, ErrMissing, 0, "/a/b", "/a is no object and no array"},
		"replacing nothing":  {`{}`, `[{"op":"replace","path":"/a","value":1}]`, ErrMissing, 0, "/a", "there is no /a"},
		"past the end":       {`[1]`, `[{"op":"add","path":"/2","value":1}]`, ErrMissing, 0, "/2", "there is no /2"},
		"a place with zeros": {`[1,2]`, `[{"op":"test","path":"/01","value":2}]`, ErrMissing, 0, "/01", "not a place in an array"},
		"a place that is -":  {`[1]`, `[{"op":"remove","path":"/-"}]`, ErrMissing, 0, "/-", "there is no /-"},
		"copying nothing":    {`{}`, `[{"op":"copy","from":"/x","path":"/a"}]`, ErrMissing, 0, "/a", `from "/x"`},
		"a failed test":      {`{"n":1}`, `[{"op":"test","path":"/n","value":1.00},{"op":"test","path":"/n","value":2}]`, ErrTest, 1, "/n", "the value is 1"},
		"removing it all":    {`1`, `[{"op":"remove","path":""}]`, ErrMissing, 0, "", "only by DELETE"},
	} {
		t.Run(name, func(t *testing.T) {
			doc := parse(t, row.doc)
			patch, err := ParsePatch([]byte(row.patch))
			if err == nil {
				_, err = patch.Apply(doc)
			}
			at, ok := errors.AsType[*PatchError](err)
			if !ok || !errors.Is(err, row.kind) || at.Op != row.op || at.Path != row.path || !strings.Contains(err.Error(), row.says) {
				t.Errorf("got %v (%+v), want %q", err, at, row.says)
			}
			if doc.String() != row.doc {
				t.Errorf("the value was changed to %s", doc)
			}
		})
	}
}

func TestAPatchDoesNotExplode(t *testing.T) {
	doc := parse(t, `{"a":["`+strings.Repeat("x", 1000)+`"]}`)
	double := strings.Repeat(`{"op":"copy","from":"","path":"/a/-"},`, 40)
	patch, err := ParsePatch([]byte("[" + strings.TrimSuffix(double, ",") + "]"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := patch.Apply(doc); !errors.Is(err, ErrBounds) {
		t.Errorf("got %v", err)
	}
	many := strings.Repeat(`{"op":"test","path":"","value":1},`, MaxOperations+1)
	if _, err := ParsePatch([]byte("[" + strings.TrimSuffix(many, ",") + "]")); !errors.Is(err, ErrBounds) {
		t.Errorf("got %v", err)
	}
	deep, err := ParsePatch([]byte(`[{"op":"add","path":"/a/0","value":` + strings.Repeat("[", MaxDepth-2) + strings.Repeat("]", MaxDepth-2) + `}]`))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := deep.Apply(parse(t, `{"a":[[]]}`)); err != nil {
		t.Errorf("as deep as it may be: %v", err)
	}
	if _, err := deep.Apply(parse(t, `{"a":{"0":1}}`)); err != nil {
		t.Errorf("as deep as it may be: %v", err)
	}
	deeper, err := ParsePatch([]byte(`[{"op":"add","path":"/a/b/0","value":` + strings.Repeat("[", MaxDepth-2) + strings.Repeat("]", MaxDepth-2) + `}]`))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := deeper.Apply(parse(t, `{"a":{"b":[]}}`)); !errors.Is(err, ErrBounds) {
		t.Errorf("deeper: %v", err)
	}
}
