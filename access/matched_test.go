package access

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// matching is a rule for whoever a matcher matches.
func matching(line, identity string, match func(*http.Request) bool) Rule {
	r := rulesOf(line)[0]
	r.Match, r.Matcher = match, identity
	return r
}

func hasHeader(name string) func(*http.Request) bool {
	return func(r *http.Request) bool { return r.Header.Get(name) != "" }
}

func TestMatchersOfEqualIdentityAreAskedOnce(t *testing.T) {
	asked := 0
	office := func(r *http.Request) bool { asked++; return r.Header.Get("X-Office") != "" }
	p, err := NewPolicy([]Rule{
		matching("@office subscribe office", "header X-Office", office),
		matching("@bureau publish office", "header X-Office", office),
		matching("@badge publish vault", "", hasHeader("X-Badge")), // its name is its identity
	}, nil, false)
	if err != nil {
		t.Fatal(err)
	}
	r := httptest.NewRequest("GET", "/", nil)
	r.Header.Set("X-Office", "yes")
	who := &Caller{Matched: p.Matched(r, nil)}
	if asked != 1 {
		t.Errorf("the matcher was asked %d times", asked)
	}
	for _, tt := range []struct {
		do, channel string
		want        bool
	}{{"subscribe", "office", true}, {"publish", "office", true}, {"publish", "vault", false}} {
		if got := p.Decide(who, tt.do, tt.channel).Allowed; got != tt.want {
			t.Errorf("%s %s: %v", tt.do, tt.channel, got)
		}
		if p.Decide(AnonymousCaller(), tt.do, tt.channel).Allowed {
			t.Errorf("%s %s: whoever no matcher was asked about is allowed", tt.do, tt.channel)
		}
	}
	if asked != 1 {
		t.Error("a decision asks the matcher")
	}
}

func TestAPolicyWithoutMatchersAsksNothing(t *testing.T) {
	p, err := NewPolicy(rulesOf("anyone subscribe **"), nil, false)
	if err != nil {
		t.Fatal(err)
	}
	if got := p.Matched(httptest.NewRequest("GET", "/", nil), nil); got != nil {
		t.Errorf("got %v", got)
	}
}

// Of a request that is made again too little is known for a matcher that says
// "not": it may only go on matching.
func TestAfterAReloadAMatcherMatchesOnlyIfItDidBefore(t *testing.T) {
	staff := hasHeader("X-Staff")
	p, err := NewPolicy([]Rule{
		matching("@staff subscribe staff", "staff", staff),
		matching("@guests subscribe guests", "not staff", func(r *http.Request) bool { return !staff(r) }),
	}, nil, false)
	if err != nil {
		t.Fatal(err)
	}
	first := httptest.NewRequest("GET", "/", nil)
	first.Header.Set("X-Staff", "yes")
	was := &Caller{Matched: p.Matched(first, nil)}
	again := httptest.NewRequest("GET", "/", nil) // what was known of it is not any more
	for name, tt := range map[string]struct {
		was  *Caller
		want string
	}{
		"a new request":                 {nil, " guests"},
		"of the staff":                  {was, ""},
		"of a guest":                    {&Caller{Matched: p.Matched(again, nil)}, " guests"},
		"of when no rule had a matcher": {AnonymousCaller(), ""},
	} {
		var got strings.Builder
		who := &Caller{Matched: p.Matched(again, tt.was)}
		for _, channel := range []string{"staff", "guests"} {
			if p.Decide(who, Subscribe, channel).Allowed {
				got.WriteString(" " + channel)
			}
		}
		if got.String() != tt.want {
			t.Errorf("%s: may read%s, want%s", name, got.String(), tt.want)
		}
	}
}
