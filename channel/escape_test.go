package channel

import "testing"

func TestAnyTextBecomesASegment(t *testing.T) {
	seen := map[string]string{}
	for s, want := range map[string]string{
		"abc": "abc", "a/b": "a~2Fb", "~": "~7E", "~7E": "~7E7E", ".": "~2E", "..": "~2E~2E", "a.b": "a.b", "_a": "~5Fa", "a_b": "a_b",
		"ä": "~C3~A4", "a b": "a~20b", "a*": "a~2A", "\x00": "~00", "%2F": "~252F", "A-Z:@!$'()=+&": "A-Z:@!$'()=+&",
	} {
		got := Escape(s)
		if got != want || Check(got) != nil {
			t.Errorf("%q is %q, want %q; %v", s, got, want, Check(got))
		}
		if other, ok := seen[got]; ok {
			t.Errorf("%q and %q are both %q", s, other, got)
		}
		seen[got] = s
	}
}

func FuzzEscape(f *testing.F) {
	f.Add("a", "b")
	f.Fuzz(func(t *testing.T, a, b string) {
		if a == "" || b == "" || len(a) > 80 || len(b) > 80 {
			return
		}
		if err := Check(Escape(a)); err != nil {
			t.Errorf("%q: %v", a, err)
		}
		if a != b && Escape(a) == Escape(b) {
			t.Errorf("%q and %q are both %q", a, b, Escape(a))
		}
	})
}
