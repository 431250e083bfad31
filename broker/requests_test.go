package broker

import (
	"context"
	"runtime"
	"testing"
	"unsafe"
	"weak"

	"github.com/evstream/caddy-evstream/sse"
)

// kept has text kept as a part of a long request, which is there for as long as
// somebody keeps the part.
func kept(t *testing.T, text string, keep func(part string) error) (request weak.Pointer[byte]) {
	t.Helper()
	line := make([]byte, 64<<10)
	copy(line, text)
	if err := keep(unsafe.String(&line[0], len(text))); err != nil {
		t.Fatal(err)
	}
	return weak.Make(&line[0])
}

// A name points into the request that it came in, which may be long. What is
// kept must not keep the request.
func TestWhatIsKeptIsNoPartOfARequest(t *testing.T) {
	event := func(b *Broker, ch, except string) error {
		_, err := b.Publish(context.Background(), []Op{{Kind: KindEvent, Channel: ch, Except: except, Event: sse.Event{Data: []byte("x")}}})
		return err
	}
	open := func(b *Broker, o SubscribeOptions) error {
		s, err := b.Subscribe(o)
		if err == nil {
			t.Cleanup(s.Close)
		}
		return err
	}
	value := func(b *Broker, ch, session, text string) error {
		op := set(ch, text)
		op.State.Session = session
		_, err := b.Publish(context.Background(), []Op{op})
		return err
	}
	for name, test := range map[string]struct {
		part string
		keep func(b *Broker, part string) error
	}{
		"a channel that is published to": {"new", func(b *Broker, part string) error { return event(b, part, "") }},
		"the same again":                 {"known", func(b *Broker, part string) error { return event(b, part, "") }},
		"a name beneath":                 {"new/", func(b *Broker, part string) error { return event(b, part, "") }},
		"who is excepted":                {"somebody", func(b *Broker, part string) error { return event(b, "known", part) }},
		"a channel that is not kept":     {"unkept/a", func(b *Broker, part string) error { return event(b, part, "somebody") }},
		"a channel that is read": {"new", func(b *Broker, part string) error {
			return open(b, SubscribeOptions{ID: "s", Channels: []string{part}})
		}},
		"a pattern": {"*/new", func(b *Broker, part string) error {
			return open(b, SubscribeOptions{ID: "s", Channels: []string{part}})
		}},
		"a type": {"score", func(b *Broker, part string) error {
			return open(b, SubscribeOptions{ID: "s", Channels: []string{"known"}, Types: []string{part}})
		}},
		"a channel that is dropped": {"new", func(b *Broker, part string) error {
			err := event(b, part, "")
			for f := b.feeds[part]; f != nil; f = b.feeds[part] {
				b.mu.Lock()
				b.removeFeed(f)
				b.mu.Unlock()
			}
			return err
		}},
		"a channel with a value":           {"new", func(b *Broker, part string) error { return value(b, part, "", "1") }},
		"a channel whose value is changed": {"valued", func(b *Broker, part string) error { return value(b, part, "", "2") }},
		"a channel whose value is removed": {"valued", func(b *Broker, part string) error { return value(b, part, "", "") }},
		"a session with a value":           {"session", func(b *Broker, part string) error { return value(b, "new", part, "1") }},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBroker(t, func(c *Config) {
				c.Rules = []Rule{{Pattern: "unkept/**", Policy: Policy{Bytes: 1 << 20}}}
			})
			publish(t, b, "known", "0")
			publishAll(t, b, set("valued", "1"))
			_ = subscribeTo(t, b, SubscribeOptions{ID: "session", Channels: []string{"**"}})
			request := kept(t, test.part, func(part string) error { return test.keep(b, part) })
			runtime.GC()
			runtime.GC()
			if request.Value() != nil {
				t.Error("the request is kept")
			}
			runtime.KeepAlive(b)
		})
	}
}
