package evstream

import (
	"encoding/json"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/evstream/caddy-evstream/redisadapter"
)

// reference is the page of all options.
const reference = "docs/caddyfile.md"

// section returns the part of the reference beneath a heading.
func section(t *testing.T, heading string) string {
	t.Helper()
	data, err := os.ReadFile(reference)
	if err != nil {
		t.Fatal(err)
	}
	_, after, ok := strings.Cut(string(data), "\n"+heading+"\n")
	if !ok {
		t.Fatalf("%s has no heading %q", reference, heading)
	}
	after, _, _ = strings.Cut(after, "\n## ")
	return after
}

// shownBeneath adapts the first Caddyfile beneath a heading, and reads the first
// part of the configuration that lies under a key.
func shownBeneath(t *testing.T, heading, key string, into any) {
	t.Helper()
	_, rest, _ := strings.Cut(section(t, heading), "```caddyfile\n")
	text, _, _ := strings.Cut(rest, "```\n")
	_, after, ok := strings.Cut(string(adapt(t, text)), key)
	if !ok {
		t.Fatalf("the Caddyfile beneath %q has no %s", heading, key)
	}
	if err := json.NewDecoder(strings.NewReader(after)).Decode(into); err != nil {
		t.Fatal(err)
	}
}

// unset lists the exported fields of a configuration that are zero.
func unset(config any) []string {
	var names []string
	v := reflect.ValueOf(config).Elem()
	for i := range v.NumField() {
		if f := v.Type().Field(i); f.IsExported() && !f.Anonymous && v.Field(i).IsZero() {
			names = append(names, f.Name)
		}
	}
	return names
}

func TestTheReferenceShowsEveryGlobalOptionWithItsDefault(t *testing.T) {
	var shown BrokerConfig
	shownBeneath(t, "## Global options", `"default":`, &shown)
	if missing := unset(&shown); missing != nil {
		t.Errorf("not shown: %v", missing)
	}
	shown.Channels = nil // examples, which have no default
	got, err := shown.settings()
	if err != nil {
		t.Fatal(err)
	}
	want, _ := new(BrokerConfig).settings()
	if !reflect.DeepEqual(got, want) {
		t.Errorf("shown as defaults are\n%+v\nwhich are\n%+v", got, want)
	}
}

func TestTheReferenceShowsEverySubdirectiveWithItsDefault(t *testing.T) {
	var shown Handler
	shownBeneath(t, "## The handler", `"handle":[{"handler":"subroute","routes":[{"handle":[`, &shown)
	// "event" of heartbeat is in the table only, as all fields are; what takes over has no
	// channels, and is beside no other option.
	if missing := unset(&shown); !slices.Equal(missing, []string{"Handoff", "Record", "Resume", "HeartbeatEvent"}) {
		t.Errorf("not shown: %v", missing)
	}
	shown.OnReloadDrain = 0 // off, unless it is written
	got, err := shown.settings()
	if err != nil {
		t.Fatal(err)
	}
	want, _ := new(Handler).settings()
	if got != want {
		t.Errorf("shown as defaults are\n%+v\nwhich are\n%+v", got, want)
	}
	if shown.MaxBody != 1<<20 || shown.Broker != "default" || shown.OnOverload != "retry" {
		t.Errorf("shown as defaults are max_body %d, broker %s, on_overload %s", shown.MaxBody, shown.Broker, shown.OnOverload)
	}
}

func TestTheReferenceShowsEveryOptionOfRedis(t *testing.T) {
	_, rest, _ := strings.Cut(section(t, "## Redis"), "```caddyfile\n")
	text, _, _ := strings.Cut(rest, "```\n")
	var config struct {
		Apps struct {
			Evstream struct {
				Brokers map[string]struct{ Adapter RedisAdapter }
			}
		}
	}
	if err := json.Unmarshal(adapt(t, text), &config); err != nil {
		t.Fatal(err)
	}
	shown := map[string]bool{}
	for _, b := range config.Apps.Evstream.Brokers {
		missing := unset(&b.Adapter)
		for f := range reflect.TypeFor[RedisAdapter]().Fields() {
			shown[f.Name] = shown[f.Name] || !slices.Contains(missing, f.Name)
		}
	}
	for name, ok := range shown {
		if f, _ := reflect.TypeFor[RedisAdapter]().FieldByName(name); f.IsExported() && !ok {
			t.Errorf("%s is not shown", name)
		}
	}

	whole := config.Apps.Evstream.Brokers["default"].Adapter
	def := redisadapter.DefaultConfig()
	if whole.MaxSize != Limit(def.MaxBytes) || time.Duration(whole.LiveAge) != def.LiveAge || time.Duration(whole.Wait.Timeout) != def.WaitTimeout || whole.Prefix != "evstream:default" {
		t.Errorf("shown as defaults are %+v", whole)
	}
}
