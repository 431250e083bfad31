package broker

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"unsafe"

	"github.com/evstream/caddy-evstream/sse"
)

func TestAFilterHasSoManyTermsOfSoManyBytes(t *testing.T) {
	b := newBroker(t)
	terms := func(n int) []string { return slices.Repeat([]string{"user:a"}, n) }
	long := strings.Repeat("x", MaxTerm)
	for name, tt := range map[string]struct {
		f  Filter
		ok bool
	}{
		"as many as may be":      {Filter{To: terms(MaxFilter)}, true},
		"as many in both":        {Filter{To: terms(MaxFilter / 2), Except: terms(MaxFilter / 2)}, true},
		"one too many":           {Filter{To: terms(MaxFilter + 1)}, false},
		"one too many in both":   {Filter{To: terms(MaxFilter), Except: terms(1)}, false},
		"as long as may be":      {Filter{To: []string{long}, Except: []string{long}}, true},
		"a byte too long":        {Filter{To: []string{"user:a", long + "x"}}, false},
		"a byte too long, there": {Filter{Except: []string{long + "x"}}, false},
	} {
		_, err := b.Publish(t.Context(), []Op{{Kind: KindEvent, Channel: "a", Filter: &tt.f, Event: sse.Event{Data: []byte("x")}}})
		if errors.Is(err, ErrFilter) == tt.ok || tt.ok && err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// named is an Audience of one user.
type named string

// Is implements Audience.
func (n named) Is(term string) bool { return term == "user:"+string(n) }

func TestAFilterNamesNobodyWhoIsNobody(t *testing.T) {
	b := newBroker(t)
	for i, f := range []*Filter{
		{To: []string{"session:"}},
		{To: []string{"user:ann"}},
		{Except: []string{"session:"}},
		{To: []string{"user:ann", "session:s"}, Except: []string{"user:ann"}},
		{Except: []string{"user:ann"}},
	} {
		publishAll(t, b, Op{Kind: KindEvent, Channel: "a", Filter: f, Event: sse.Event{Data: []byte{byte('0' + i)}}})
	}
	for name, tt := range map[string]struct {
		o    SubscribeOptions
		want string
	}{
		"nobody":                        {SubscribeOptions{}, "2 4"},
		"a session":                     {SubscribeOptions{ID: "s"}, "2 3 4"},
		"a user without a session":      {SubscribeOptions{Audience: named("ann")}, "1 2"},
		"a user with one":               {SubscribeOptions{ID: "s", Audience: named("ann")}, "1 2"},
		"a session of another user":     {SubscribeOptions{ID: "s", Audience: named("bob")}, "2 3 4"},
		"another session of no account": {SubscribeOptions{ID: "ss"}, "2 4"},
	} {
		t.Run(name, func(t *testing.T) {
			tt.o.Channels, tt.o.Start = []string{"a"}, Start{Last: 9}
			expect(t, subscribeTo(t, b, tt.o), tt.want)
		})
	}
}

// A filter takes the memory of its terms, and shares none with the request.
func TestAFilterCountsAsMemoryOfItsOwn(t *testing.T) {
	const bytes = 64 << 10
	b := newBroker(t, func(c *Config) { c.History = Policy{Events: Unlimited, Bytes: bytes} })
	who := strings.Repeat("w", 250)
	f := &Filter{To: []string{who, who}, Except: []string{who, who}}
	for i := range 500 {
		publishAll(t, b, Op{Kind: KindEvent, Channel: "a", Filter: f, Event: sse.Event{Data: []byte("x")}})
		if alone := b.feeds["a"].count() * 4 * len(who); alone > bytes || b.Stats().Bytes > bytes {
			t.Fatalf("%d events: %d bytes are held, %d for whom they are for; at most %d are allowed", i+1, b.Stats().Bytes, alone, bytes)
		}
	}
	own := f.clone()
	for _, terms := range [][]string{own.To, own.Except} {
		for _, term := range terms {
			if unsafe.StringData(term) == unsafe.StringData(who) {
				t.Error("a term that is kept is a part of the request")
			}
		}
	}
}

// Two filters that differ make two operations of one key.
func TestAKeyIsForOneFilter(t *testing.T) {
	b := newBroker(t)
	for i, f := range []*Filter{
		nil,
		{To: []string{"user:a"}},
		{Except: []string{"user:a"}},
		{To: []string{"user:a", "user:b"}},
		{To: []string{"user:a"}, Except: []string{"user:b"}},
		{Except: []string{"user:a", "user:b"}},
		{To: []string{"user:auser:b"}},
	} {
		op := Op{Kind: KindEvent, Channel: "a", Key: Key{Key: "k"}, Filter: f, Event: sse.Event{Data: []byte("x")}}
		results, err := b.Publish(t.Context(), []Op{op})
		if err != nil {
			t.Fatal(err)
		}
		if first := i == 0; (results[0].Err == nil) != first {
			t.Errorf("filter %d: %v", i, results[0].Err)
		}
		for j, other := range []*Filter{{To: []string{"user:a"}, Except: []string{"user:b"}}, {To: []string{"user:a", "user:b"}}, {Except: []string{"user:a", "user:b"}}} {
			var a, b []byte
			f.spell(func(p []byte) { a = append(append(a, p...), ';') })
			other.spell(func(p []byte) { b = append(append(b, p...), ';') })
			if same := f != nil && slices.Equal(f.To, other.To) && slices.Equal(f.Except, other.Except); (string(a) == string(b)) != same {
				t.Errorf("filters %d and %d are spelt %q and %q", i, j, a, b)
			}
		}
	}
}
