package evstream

import (
	"encoding/json"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// dashboard is what the test reads of one.
type dashboard struct {
	Panels []struct {
		ID          int
		Type, Title string
		Targets     []struct{ Expr string }
	}
	Templating struct {
		List []struct {
			Name  string
			Query any
		}
	}
}

// TestTheDashboardAndTheAlertsAskForMetricsThatAreThere compares their names, and those of
// labels, with what a Caddy says that has just started.
func TestTheDashboardAndTheAlertsAskForMetricsThatAreThere(t *testing.T) {
	address, admin := freeAddress(t), freeAddress(t)
	load(t, withAdmin(admin, address, "", allowAnything))
	_, text := scrape(t, admin)
	names := make(map[string]string) // types
	for _, m := range regexp.MustCompile(`(?m)^# TYPE (\S+) (\S+)$`).FindAllStringSubmatch(text, -1) {
		names[m[1]] = m[2]
	}
	labels := []string{"job", "instance"} // of Prometheus
	for _, m := range regexp.MustCompile(`[{,]([a-z]+)="`).FindAllStringSubmatch(text, -1) {
		labels = append(labels, m[1])
	}

	data, err := os.ReadFile("deploy/grafana/dashboard.json")
	if err != nil {
		t.Fatal(err)
	}
	var d dashboard
	if err := json.Unmarshal(data, &d); err != nil {
		t.Fatal(err)
	}
	var queries []string
	var ids []int
	for _, p := range d.Panels {
		if slices.Contains(ids, p.ID) {
			t.Errorf("two panels have the id %d", p.ID)
		}
		ids = append(ids, p.ID)
		if p.Type != "row" && len(p.Targets) == 0 {
			t.Errorf("the panel %q asks for nothing", p.Title)
		}
		for _, target := range p.Targets {
			queries = append(queries, target.Expr)
		}
	}
	rules, err := os.ReadFile("deploy/grafana/rules.yml")
	if err != nil {
		t.Fatal(err)
	}
	alerts := regexp.MustCompile(`(?s)expr: (.*?)\n +(?:for|labels):`).FindAllStringSubmatch(string(rules), -1)
	if len(alerts) != strings.Count(string(rules), "- alert: ") {
		t.Fatalf("only %d of the alerts have an expression", len(alerts))
	}
	for _, m := range alerts {
		queries = append(queries, m[1])
	}

	asked := make(map[string]bool)
	for _, q := range queries {
		found := regexp.MustCompile(`\bevstream_[a-z_]+`).FindAllString(q, -1)
		if len(found) == 0 {
			t.Errorf("%s: asks for no metric", q)
		}
		for _, name := range found {
			of := name
			for _, suffix := range []string{"_bucket", "_sum", "_count"} {
				if base, ok := strings.CutSuffix(name, suffix); ok && names[base] == "histogram" {
					of = base
				}
			}
			asked[of] = true
			switch kind := names[of]; {
			case kind == "":
				t.Errorf("%s: there is no metric %s", q, name)
			case (kind == "counter" || of != name) != regexp.MustCompile(`(rate|increase)\(`+name+`\b`).MatchString(q):
				t.Errorf("%s: %s is a %s", q, name, kind)
			}
		}
		for _, m := range regexp.MustCompile(`\bby \(([^)]*)\)|[{,]([a-z_]+)[=!]`).FindAllStringSubmatch(q, -1) {
			for label := range strings.SplitSeq(m[1]+m[2], ", ") {
				if !slices.Contains(labels, label) {
					t.Errorf("%s: there is no label %s", q, label)
				}
			}
		}
	}
	for name := range names {
		if !asked[name] {
			t.Errorf("nobody asks for %s", name)
		}
	}
}
