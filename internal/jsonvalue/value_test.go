package jsonvalue

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
)

func parse(t testing.TB, text string) *Value {
	t.Helper()
	v, err := Parse([]byte(text))
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return v
}

func TestTextIsKeptAsItIsWritten(t *testing.T) {
	for text, want := range map[string]string{
		"42":                     "42",
		" 42 ":                   "42",
		"9223372036854775808":    "9223372036854775808",
		"-0":                     "-0",
		"0.1":                    "0.1",
		"1.0":                    "1.0",
		"1E+2":                   "1E+2",
		"123456789012345678.123": "123456789012345678.123",
		`"\u00e9é\n\/"`:          `"\u00e9é\n\/"`,
		`"\ud83d\ude00"`:         `"\ud83d\ude00"`,
		`{"b" : 1, "a" : [ ] }`:  `{"b":1,"a":[]}`,
		"[\n1,\t{ }\r\n]":        "[1,{}]",
		"null":                   "null",
		"true":                   "true",
		"false":                  "false",
		`"<&>"`:                  `"<&>"`,
	} {
		got, err := Compact([]byte(text), len(want))
		if err != nil || string(got) != want {
			t.Errorf("%s becomes %s, %v; want %s", text, got, err, want)
		}
		var over *SizeError
		if _, err := Compact([]byte(text), len(want)-1); !errors.As(err, &over) || *over != (SizeError{len(want), len(want) - 1}) {
			t.Errorf("%s is not over a limit: %v", text, err)
		}
	}
}

func TestWhatCannotBeKeptIsRefused(t *testing.T) {
	for name, row := range map[string]struct {
		text string
		kind error
		says string
	}{
		"nothing":                {"", ErrSyntax, "it is empty"},
		"white space":            {" \n", ErrSyntax, "it is empty"},
		"no JSON":                {"{a:1}", ErrSyntax, "malformed at byte 2"},
		"two values":             {"1 2", ErrSyntax, "malformed at byte 3"},
		"half of a value":        {`{"a":`, ErrSyntax, "malformed at byte 5"},
		"a number with a zero":   {"01", ErrSyntax, "malformed at byte 2"},
		"not a number":           {"NaN", ErrSyntax, "malformed at byte 1"},
		"not UTF-8":              {"\"\xff\"", ErrSyntax, "not UTF-8"},
		"a member twice":         {`{"x":{"a":1,"\u0061":2}}`, ErrSyntax, "/x/a is there twice"},
		"half a character":       {`["a",{"b":"\ud800"}]`, ErrSyntax, "/1/b has half of a surrogate pair"},
		"half a second one":      {`"\ud800\u0061"`, ErrSyntax, "the value has half of a surrogate pair"},
		"half a character, name": {`{"\udc00":1}`, ErrSyntax, "half of a surrogate pair"},
		"a vast exponent":        {`{"a":1e99999999999}`, ErrBounds, "/a: the value is over a bound: the exponent"},
		"too deep":               {strings.Repeat("[", MaxDepth+1) + strings.Repeat("]", MaxDepth+1), ErrBounds, "more than 64 levels deep"},
		"far too deep":           {strings.Repeat("[", 20_000) + strings.Repeat("]", 20_000), ErrSyntax, "exceeded max depth"},
		"too many members":       {"{" + manyMembers(MaxMembers+1) + "}", ErrBounds, "more than 4096 members"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Parse([]byte(row.text))
			if !errors.Is(err, row.kind) || !strings.Contains(err.Error(), row.says) {
				t.Errorf("got %v, want %q", err, row.says)
			}
		})
	}
	parse(t, strings.Repeat("[", MaxDepth)+strings.Repeat("]", MaxDepth))
	parse(t, "{"+manyMembers(MaxMembers)+"}")
	if _, err := Parse([]byte("{" + manyMembers(100) + `,"m7":0}`)); !errors.Is(err, ErrSyntax) {
		t.Errorf("a member twice among many: %v", err)
	}
}

func manyMembers(n int) string {
	members := make([]string, n)
	for i := range members {
		members[i] = fmt.Sprintf(`"m%d":%d`, i, i)
	}
	return strings.Join(members, ",")
}

func TestValuesAreEqualByWhatTheyAre(t *testing.T) {
	for _, same := range [][]string{
		{"1", "1.0", "1e0", "10e-1", "0.1E1", "100e-2"},
		{"0", "-0", "0.0", "0e5", "-0.0e-9"},
		{"-12.5", "-125e-1", "-12.50"},
		{"9223372036854775808", "9223372036854775808.0"},
		{"9223372036854775807"},
		{"0.1"},
		{"0.10000000000000000001"},
		{"1e1000000000", "10e999999999"},
		{`"a"`, `"\u0061"`},
		{`"1"`},
		{`{"a":1,"b":[true,null]}`, `{"b":[true,null],"a":1.0}`},
		{`{"b":1,"a":[true,null]}`},
		{`[1,2]`},
		{`[2,1]`},
		{`[12]`},
		{`[[1],2]`},
		{`[[1,2]]`},
		{`["a","b"]`},
		{`["ab"]`},
		{`[]`},
		{`{}`},
		{`[{}]`},
		{`{"":{}}`},
		{`null`},
		{`true`},
		{`false`},
		{`""`},
	} {
		for _, a := range same {
			for _, b := range same {
				if !Equal(parse(t, a), parse(t, b)) {
					t.Errorf("%s is not %s", a, b)
				}
			}
			others[a] = same[0]
		}
	}
	for a, group := range others {
		for b, other := range others {
			if group != other && Equal(parse(t, a), parse(t, b)) {
				t.Errorf("%s is %s", a, b)
			}
		}
	}
}

var others = map[string]string{}

func TestSumsAreExact(t *testing.T) {
	for _, row := range [][3]string{
		{"1", "1", "2"},
		{"0.1", "0.2", "0.3"},
		{"9223372036854775807", "1", "9223372036854775808"},
		{"-1", "1", "0"},
		{"1.50", "0.5", "2"},
		{"0.001", "-0.002", "-0.001"},
		{"1e3", "1e-3", "1000.001"},
		{"-0", "0", "0"},
		{"12345678901234567890123456789012345678901234567890", "1", "12345678901234567890123456789012345678901234567891"},
		{"9", "-10.25", "-1.25"},
	} {
		if got, err := Add([]byte(row[0]), []byte(row[1])); err != nil || string(got) != row[2] {
			t.Errorf("%s + %s = %s, %v; want %s", row[0], row[1], got, err, row[2])
		}
	}
	nines := strings.Repeat("9", maxSumDigits)
	for _, row := range []struct {
		a, b string
		want error
	}{
		{`"1"`, "1", ErrNotNumber},
		{"1", "true", ErrNotNumber},
		{"1", "", ErrNotNumber},
		{"1", "1 ", nil},
		{"1", "NaN", ErrNotNumber},
		{"1", "+1", ErrNotNumber},
		{"1e1000000", "1", ErrSum},
		{"1", "1e-1000000", ErrSum},
		{"1", "1e99999999999", ErrSum},
		{nines, "1", ErrSum},
		{nines, "-1", nil},
	} {
		if _, err := Add([]byte(row.a), []byte(row.b)); !errors.Is(err, row.want) {
			t.Errorf("%s + %s: %v, want %v", row.a, row.b, err, row.want)
		}
	}
}

// random is a JSON value of some size.
func random(rng *rand.Rand, depth int) string {
	kind := rng.IntN(8)
	if depth == 0 {
		kind %= 5
	}
	switch kind {
	case 0:
		return "null"
	case 1:
		return []string{"true", "false"}[rng.IntN(2)]
	case 2, 3:
		return []string{"0", "1", "1.0", "2", "-0.5", "1e3"}[rng.IntN(6)]
	case 4:
		return []string{`"a"`, `"b"`, `""`, `"\u00e9"`, `"~/"`}[rng.IntN(5)]
	case 5:
		items := make([]string, rng.IntN(5))
		for i := range items {
			items[i] = random(rng, depth-1)
		}
		return "[" + strings.Join(items, ",") + "]"
	}
	var members []string
	for _, name := range []string{`"a"`, `"b"`, `"c/~"`, `"d"`} {
		if rng.IntN(2) == 0 {
			members = append(members, name+":"+random(rng, depth-1))
		}
	}
	return "{" + strings.Join(members, ",") + "}"
}

func TestADiffMakesTheOneOfTheOther(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	merged := 0
	for range 20_000 {
		old, changed := parse(t, random(rng, 4)), parse(t, random(rng, 4))
		patch, err := ParsePatch(Diff(old, changed, math.MaxInt))
		if err != nil {
			t.Fatalf("from %s to %s: %v", old, changed, err)
		}
		text := Diff(old, changed, math.MaxInt)
		if cut, whole := Diff(old, changed, len(text)), Diff(old, changed, len(text)+1); cut != nil || string(whole) != string(text) {
			t.Fatalf("%s has %d bytes; within as many it is %s, within one more %s", text, len(text), cut, whole)
		}
		before := old.String()
		if equal := string(old.Canonical(nil)) == string(changed.Canonical(nil)); Equal(old, changed) != equal || equal != (string(text) == "[]") {
			t.Fatalf("%s is %s: %v, and the difference %s", old, changed, equal, text)
		}
		got, err := patch.Apply(old)
		if err != nil || !Equal(got, changed) {
			t.Fatalf("from %s to %s: %s makes %v, %v", old, changed, Diff(old, changed, math.MaxInt), got, err)
		}
		if old.String() != before {
			t.Fatalf("%s was changed to %s", before, old)
		}
		if merge := MergeDiff(old, changed); merge != nil {
			merged++
			if got := Merge(old, merge); !Equal(got, changed) {
				t.Fatalf("from %s to %s: %s makes %s", old, changed, merge, got)
			}
			if old.String() != before {
				t.Fatalf("%s was changed to %s", before, old)
			}
		}
	}
	if merged < 500 {
		t.Errorf("there were only %d merge patches", merged)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"a":[1,-0.5e3,"\ud83d\ude00",null,true,{}]}`), []byte(`{"a":[1,2]}`))
	f.Fuzz(func(t *testing.T, a, b []byte) {
		v, err := Parse(a)
		if err != nil {
			return
		}
		again := parse(t, v.String())
		if again.String() != v.String() || !Equal(v, again) {
			t.Errorf("%s is read again as %s", v, again)
		}
		w, err := Parse(b)
		if err != nil {
			return
		}
		patch, err := ParsePatch(Diff(v, w, math.MaxInt))
		if err != nil {
			return // there are more differences than a patch may have operations
		}
		if got, err := patch.Apply(v); err == nil && !Equal(got, w) {
			t.Errorf("from %s to %s came %s", v, w, got)
		}
		if merge := MergeDiff(v, w); merge != nil && !Equal(Merge(v, merge), w) {
			t.Errorf("from %s to %s: %s", v, w, merge)
		}
	})
}
