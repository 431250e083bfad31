package evstream

import (
	"encoding/json"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/evstream/caddy-evstream/redisadapter"
)

// readme returns README.md from a heading on.
func readme(t *testing.T, heading string) string {
	t.Helper()
	data, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, after, ok := strings.Cut(string(data), "\n"+heading+"\n")
	if !ok {
		t.Fatalf("README.md has no heading %q", heading)
	}
	return after
}

// reference adapts the first Caddyfile beneath a heading, and returns the first
// part of the configuration that lies under a key.
func reference(t *testing.T, heading, key string, into any) {
	t.Helper()
	_, rest, _ := strings.Cut(readme(t, heading), "```caddyfile\n")
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

func TestReadmeShowsEveryGlobalOptionWithItsDefault(t *testing.T) {
	var shown BrokerConfig
	reference(t, "### Global options", `"default":`, &shown)
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

func TestReadmeShowsEverySubdirectiveWithItsDefault(t *testing.T) {
	var shown Handler
	reference(t, "### The handler", `"handle":[{"handler":"subroute","routes":[{"handle":[`, &shown)
	// "event" of heartbeat is in the table only.
	if missing := unset(&shown); !slices.Equal(missing, []string{"HeartbeatEvent"}) {
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
	if shown.MaxBody != defaultMaxBody || shown.Broker != defaultBroker || shown.OnOverload != "retry" {
		t.Errorf("shown as defaults are max_body %d, broker %s, on_overload %s", shown.MaxBody, shown.Broker, shown.OnOverload)
	}
}

func TestReadmeNamesEveryMetricAndReason(t *testing.T) {
	section, _, _ := strings.Cut(readme(t, "## Metrics and logs"), "\n## ")
	descs := make(chan *prometheus.Desc, 64)
	metrics.Describe(descs)
	close(descs)
	for d := range descs {
		_, name, _ := strings.Cut(d.String(), `fqName: "`)
		name, _, _ = strings.Cut(name, `"`)
		if !strings.Contains(section, "`"+name) {
			t.Errorf("metric %s is missing", name)
		}
	}
	for reason := range newFigures().disconnects {
		if !strings.Contains(section, "`"+string(reason)+"`") {
			t.Errorf("reason %s is missing", reason)
		}
	}
}

func TestReadmeShowsEveryOptionOfRedis(t *testing.T) {
	_, rest, _ := strings.Cut(readme(t, "## Many nodes"), "```caddyfile\n") // the first is short
	_, rest, _ = strings.Cut(rest, "```caddyfile\n")
	text, table, _ := strings.Cut(rest, "```\n")
	table, _, _ = strings.Cut(table, "\n## ")
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
	for _, part := range []reflect.Type{reflect.TypeFor[RedisAdapter](), reflect.TypeFor[RedisSentinel](), reflect.TypeFor[RedisTLS](), reflect.TypeFor[RedisWait]()} {
		for f := range part.Fields() {
			name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			name = strings.TrimSuffix(name, "es") // addresses are given as address
			if f.IsExported() && !strings.Contains(strings.ToLower(table), name) {
				t.Errorf("%s is not in the table", name)
			}
			if f.IsExported() && part == reflect.TypeFor[RedisAdapter]() && !shown[f.Name] {
				t.Errorf("%s is not shown", f.Name)
			}
		}
	}

	whole := config.Apps.Evstream.Brokers["default"].Adapter
	def := redisadapter.DefaultConfig()
	if whole.MaxSize != Limit(def.MaxBytes) || time.Duration(whole.LiveAge) != def.LiveAge || time.Duration(whole.Wait.Timeout) != def.WaitTimeout || whole.Prefix != "evstream:default" {
		t.Errorf("shown as defaults are %+v", whole)
	}
}
