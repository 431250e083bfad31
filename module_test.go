package evstream

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/httpapi"
)

// handlerJSON is a configuration with one handler.
func handlerJSON(app, handler string) string {
	return fmt.Sprintf(`{"admin":{"disabled":true},"apps":{%s"http":{"servers":{"s":{"listen":["127.0.0.1:0"],"routes":[{"handle":[{"handler":"evstream"%s}]}]}}}}}`,
		app, handler)
}

const anyRule = `,"allow":[{"who":"anyone","do":["all"],"channels":["**"]}]`

func TestConfigurationsThatCannotBe(t *testing.T) {
	t.Setenv("EVSTREAM_EMPTY", "")
	for name, row := range map[string]struct{ app, handler, want string }{
		"no rule":            {"", ``, "nothing is allowed: a handler needs at least one rule"},
		"empty rules":        {"", `,"allow":[]`, "nothing is allowed"},
		"unknown broker":     {`"evstream":{"brokers":{"chat":{},"ticker":{}}},`, `,"broker":"chatt"` + anyRule, `there is no broker "chatt"; the brokers are: chat, default, ticker`},
		"unknown field":      {"", `,"alow":[]` + anyRule, `unknown field "alow"`},
		"unknown rule field": {"", `,"allow":[{"who":"anyone","do":["all"],"channels":["**"],"unless":"x"}]`, `unknown field "unless"`},
		"unknown app field":  {`"evstream":{"brokers":{"chat":{"max_conections":1}}},`, anyRule, `unknown field "max_conections"`},
		"unknown adapter":    {`"evstream":{"brokers":{"chat":{"adapter":{"name":"paper"}}}},`, anyRule, `unknown module: evstream.adapters.paper`},
		"adapter's field":    {`"evstream":{"brokers":{"chat":{"adapter":{"name":"memory","size":1}}}},`, anyRule, `unknown field "size"`},
		"zero limit":         {`"evstream":{"brokers":{"chat":{"max_channels":0}}},`, anyRule, `a limit is a number above zero or "unlimited", not 0`},
		"negative limit":     {`"evstream":{"brokers":{"chat":{"max_event":-1}}},`, anyRule, `not -1`},
		"broker's name":      {`"evstream":{"brokers":{"a b":{}}},`, anyRule, `"a b" cannot name a broker`},
		"history's size":     {`"evstream":{"brokers":{"chat":{"history":{"bytes":1}}}},`, anyRule, `broker "chat": history: the size must be at least 4096 bytes, not 1`},
		"history's age":      {`"evstream":{"brokers":{"chat":{"history":{"age":-2}}}},`, anyRule, `history: the age must be at least 1ms, or -1 for unlimited, not -2ns`},
		"history off, with":  {`"evstream":{"brokers":{"chat":{"history":{"off":true,"events":1}}}},`, anyRule, `history: off cannot be combined with events, age or bytes`},
		"channel's pattern":  {`"evstream":{"brokers":{"chat":{"channels":[{"pattern":""}]}}},`, anyRule, `channel: not a channel name`},
		"channel twice":      {`"evstream":{"brokers":{"chat":{"channels":[{"pattern":"a"},{"pattern":"a"}]}}},`, anyRule, `channel a is configured twice`},
		"heartbeat":          {"", `,"heartbeat":"10ms"` + anyRule, "heartbeat must be at least 1s, or -1 for none (in a Caddyfile, off), not 10ms"},
		"heartbeat event":    {"", `,"heartbeat":-1,"heartbeat_event":true` + anyRule, "heartbeat_event needs a heartbeat, which is off"},
		"retry":              {"", `,"retry_min":"9s","retry_max":"8s"` + anyRule, "retry_min must not be above retry_max, but 9s is above 8s"},
		"retry_max":          {"", `,"retry_max":"48h"` + anyRule, "retry_max must be at most 24h0m0s, not 48h0m0s"},
		"write_timeout":      {"", `,"write_timeout":-1` + anyRule, "write_timeout must be at least 1ms, not -1ns"},
		"max_age":            {"", `,"max_age":"1ms"` + anyRule, "max_age must be at least 1s, or -1 for unlimited (in a Caddyfile, unlimited), not 1ms"},
		"drain":              {"", `,"drain":-1` + anyRule, "drain must be at least 1ms, not -1ns"},
		"on_reload_drain":    {"", `,"on_reload_drain":-5` + anyRule, "on_reload_drain must be at least 1ms, not -5ns"},
		"long heartbeat":     {"", `,"heartbeat":"15000d"` + anyRule, "heartbeat must be at most 87600h0m0s, not 360000h0m0s"},
		"long write_timeout": {"", `,"write_timeout":"15000d"` + anyRule, "write_timeout must be at most 87600h0m0s, not 360000h0m0s"},
		"long max_age":       {"", `,"max_age":"15000d"` + anyRule, "max_age must be at most 87600h0m0s, not 360000h0m0s"},
		"long drain":         {"", `,"drain":"15000d"` + anyRule, "drain must be at most 87600h0m0s, not 360000h0m0s"},
		"long reload drain":  {"", `,"on_reload_drain":"15000d"` + anyRule, "on_reload_drain must be at most 87600h0m0s, not 360000h0m0s"},
		"on_overload":        {"", `,"on_overload":"429"` + anyRule, `on_overload must be "retry" or "503", not "429"`},
		"max_body":           {"", `,"max_body":0` + anyRule, `a limit is a number above zero`},
		"mount":              {"", `,"mount":"live"` + anyRule, `mount must be a path such as /live, without a final slash, wildcards or escapes, not "live"`},
		"mount's dots":       {"", `,"mount":"/a/../b"` + anyRule, `not "/a/../b"`},
		"empty secret":       {"", `,"bearers":{"b":""}` + anyRule, `the secret of bearer "b" is empty`},
		"empty variable":     {"", `,"bearers":{"b":"{env.EVSTREAM_EMPTY}"}` + anyRule, `the secret of bearer "b": `},
		"unset variable":     {"", `,"bearers":{"b":"{env.EVSTREAM_UNSET}"}` + anyRule, `the secret of bearer "b": `},
		"missing file":       {"", `,"bearers":{"b":"{file./no/such/file}"}` + anyRule, `the secret of bearer "b": `},
		"unknown variable":   {"", `,"bearers":{"b":"{http.request.header.x}"}` + anyRule, `the secret of bearer "b": `},
		"rule's who":         {"", `,"allow":[{"who":"backend","do":["all"],"channels":["**"]}]`, `"backend" is nobody`},
		"origin":             {"", `,"cors":["example.com/path"]` + anyRule, `example.com/path`},
	} {
		t.Run(name, func(t *testing.T) {
			err := validateJSON(t, handlerJSON(row.app, row.handler))
			if err == nil || !strings.Contains(err.Error(), row.want) {
				t.Errorf("got the error  %v\nwant part of it %s", err, row.want)
			}
			noHubs(t)
		})
	}
}

func TestLeftOutSettingsTakeTheirDefaults(t *testing.T) {
	s, err := new(BrokerConfig).settings()
	if err != nil {
		t.Fatal(err)
	}
	want := broker.DefaultConfig()
	want.Logger = s.hub.Broker.Logger
	if got := fmt.Sprint(s.hub.Broker); got != fmt.Sprint(want) || s.hub.MaxPerAddress != 200 {
		t.Errorf("got %s and %d streams an address", got, s.hub.MaxPerAddress)
	}
	h, err := new(Handler).settings()
	if err != nil {
		t.Fatal(err)
	}
	if got, want := fmt.Sprint(h), fmt.Sprint(httpapi.Streams{
		Heartbeat: 15 * time.Second, RetryMin: 2 * time.Second, RetryMax: 5 * time.Second, WriteTimeout: 10 * time.Second, Drain: 5 * time.Second,
	}); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestChannelHistoryTakesWhatItLeavesOutFromTheBroker(t *testing.T) {
	c := &BrokerConfig{
		History: &History{Events: 10, Age: -1},
		Channels: []ChannelConfig{
			{Pattern: "a", History: &History{Events: 20}},
			{Pattern: "b", History: &History{Off: true}},
			{Pattern: "c"},
		},
	}
	s, err := c.settings()
	if err != nil {
		t.Fatal(err)
	}
	want := []broker.Rule{
		{Pattern: "a", Policy: broker.Policy{Events: 20, Bytes: 16 << 20}},
		{Pattern: "b", Policy: broker.Policy{Bytes: 16 << 20}},
		{Pattern: "c", Policy: broker.Policy{Events: 10, Bytes: 16 << 20}},
	}
	if fmt.Sprint(s.hub.Broker.Rules) != fmt.Sprint(want) {
		t.Errorf("got  %v\nwant %v", s.hub.Broker.Rules, want)
	}
}

func TestRetryBoundAloneMovesTheOther(t *testing.T) {
	s, err := (&Handler{RetryMin: caddy.Duration(60e9)}).settings()
	if err != nil || s.RetryMin != s.RetryMax {
		t.Errorf("got %s to %s, %v", s.RetryMin, s.RetryMax, err)
	}
	s, err = (&Handler{RetryMax: caddy.Duration(1e9)}).settings()
	if err != nil || s.RetryMin != s.RetryMax {
		t.Errorf("got %s to %s, %v", s.RetryMin, s.RetryMax, err)
	}
}

// brokenAdapter is a log that cannot be opened.
type brokenAdapter struct{}

func init() { caddy.RegisterModule(brokenAdapter{}) }

var errBroken = errors.New("no such disk")

func (brokenAdapter) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "evstream.adapters.broken", New: func() caddy.Module { return new(brokenAdapter) }}
}
func (brokenAdapter) Identity(string) string                        { return "broken" }
func (brokenAdapter) Open(string, *slog.Logger) (broker.Log, error) { return nil, errBroken }

func TestCleanupAfterHalfAProvisionReleasesWhatWasAcquired(t *testing.T) {
	app := `"evstream":{"brokers":{"a":{},"b":{},"z":{"adapter":{"name":"broken"}}}},`
	if err := validateJSON(t, handlerJSON(app, anyRule)); err == nil || !strings.Contains(err.Error(), `broker "z": opening the log: no such disk`) {
		t.Errorf("got the error %v", err)
	}
	noHubs(t)
}

func TestSecondCleanupTakesNoReferenceOfAnother(t *testing.T) {
	provision := func() *App {
		ctx, cancel := caddy.NewContext(caddy.Context{Context: t.Context()})
		t.Cleanup(cancel)
		a := &App{}
		a.hubs, a.settings = make(map[string]*openHub), make(map[string]*brokerSettings)
		if err := a.open(ctx, "default", nil); err != nil {
			t.Fatal(err)
		}
		return a
	}
	first, second := provision(), provision()
	for range 2 {
		if err := first.Cleanup(); err != nil {
			t.Fatal(err)
		}
	}
	if n, ok := pool.References(second.keys[0]); n != 1 || !ok {
		t.Errorf("%d references are left, want that of the second", n)
	}
	if err := second.Cleanup(); err != nil {
		t.Fatal(err)
	}
	noHubs(t)
}

func TestDefaultBrokerExistsUndeclared(t *testing.T) {
	if err := validateJSON(t, handlerJSON("", anyRule)); err != nil {
		t.Error(err)
	}
	if err := validateJSON(t, handlerJSON(`"evstream":{"brokers":{"chat":null}},`, `,"broker":"chat"`+anyRule)); err != nil {
		t.Error(err)
	}
	noHubs(t)
}
