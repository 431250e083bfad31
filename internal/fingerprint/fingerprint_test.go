package fingerprint

import (
	"net/netip"
	"reflect"
	"sync"
	"testing"
)

type loadedModule struct {
	Accounts map[string]account `json:"-"`
	cache    map[string]int
}

type account struct{ Name, Password string }

func (*loadedModule) CaddyModule() {}

type notModule struct{ State int }

type guard struct {
	Raw       []byte         `json:"providers,omitempty"`
	Providers map[string]any `json:"-"`
	Sets      [][]any        `json:"-"`
	Runtime   *notModule     `json:"-"`
	Range     netip.Prefix   `json:"range"`
	Nested    *guard         `json:"nested,omitempty"`
	Callback  func()         `json:"-"`
	Group     string         `json:"group"`
	Mu        sync.Mutex     `json:"-"`
	requests  int
}

func TestSumsDependOnWhatIsConfigured(t *testing.T) {
	base := func() *guard {
		return &guard{
			Providers: map[string]any{"basic": &loadedModule{Accounts: map[string]account{"alice": {"alice", "hash"}}}},
			Sets:      [][]any{{&loadedModule{}}},
			Range:     netip.MustParsePrefix("10.0.0.0/8"),
			Nested:    &guard{Group: "inner"},
		}
	}
	options := Options{Ignore: func(in reflect.Type, field string) bool { return field == "Group" }}
	want := options.Of(base(), "a")
	for _, tt := range []struct {
		name   string
		change func(*guard)
		same   bool
	}{
		{"nothing", func(*guard) {}, true},
		{"state", func(g *guard) { g.requests, g.Runtime, g.Callback = 7, &notModule{7}, func() {} }, true},
		{"state of a module", func(g *guard) { g.Providers["basic"].(*loadedModule).cache = map[string]int{"a": 1} }, true},
		{"what is ignored", func(g *guard) { g.Nested.Group = "other" }, true},
		{"a value that is no module", func(g *guard) { g.Providers["state"] = nil; delete(g.Providers, "state") }, true},
		{"an account", func(g *guard) { g.Providers["basic"].(*loadedModule).Accounts["alice"] = account{"alice", "other"} }, false},
		{"another provider", func(g *guard) { g.Providers["more"] = &loadedModule{} }, false},
		{"one matcher more", func(g *guard) { g.Sets[0] = append(g.Sets[0], &loadedModule{}) }, false},
		{"one set more", func(g *guard) { g.Sets = append(g.Sets, nil) }, false},
		{"what is encoded as text", func(g *guard) { g.Range = netip.MustParsePrefix("10.0.0.0/9") }, false},
		{"what is nested", func(g *guard) { g.Nested.Raw = []byte("x") }, false},
		{"nothing nested", func(g *guard) { g.Nested = nil }, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			g := base()
			tt.change(g)
			if got := options.Of(g, "a"); (got == want) != tt.same {
				t.Errorf("the same: %v, want %v", got == want, tt.same)
			}
		})
	}
	if options.Of("ab", "c") == options.Of("a", "bc") {
		t.Error("two sequences have one sum")
	}
}

func TestSumsEndOnValuesThatHoldThemselves(t *testing.T) {
	g := new(guard)
	g.Nested = g
	also := Options{Also: func(module any) any { return module }}
	for _, o := range []Options{{}, also} {
		if first, again := o.Of(g), o.Of(g); first != again {
			t.Error("two sums of one value")
		}
	}
}

func TestSumsCountWhatAModuleStandsFor(t *testing.T) {
	named := "a"
	o := Options{Also: func(module any) any {
		if _, ok := module.(*loadedModule); ok {
			return named
		}
		return nil
	}}
	before := o.Of(&loadedModule{})
	named = "b"
	if o.Of(&loadedModule{}) == before {
		t.Error("it makes no difference")
	}
}
