package evstream

import (
	"bufio"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestTheOperationsPageNamesEveryMetricAndReason compares the page with what a
// Caddy that has just started says: each reason is there from the beginning.
func TestTheOperationsPageNamesEveryMetricAndReason(t *testing.T) {
	address := freeAddress(t)
	load(t, options("")+"http://"+address+" {\n\tmetrics /metrics\n\tevstream /live/* {\n\t\tallow anyone subscribe **\n\t}\n}\n")
	resp, err := http.Get("http://" + address + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	metrics := map[string][]string{} // the reasons by the name
	label := map[string]string{}     // that has them: "reason" or "result"
	sample := regexp.MustCompile(`^(evstream_[a-z_]+?)(?:_seconds_(?:sum|count|bucket))?\{broker="default"(?:,(?:state|delivery|protocol|le)="[a-z0-9/.+I]+")*(?:,(reason|result)="([a-z_]+)")?\} `)
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		if m := sample.FindStringSubmatch(lines.Text()); m != nil {
			if strings.Contains(m[0], "_seconds_") { // a histogram
				m[1] += "_seconds"
			}
			metrics[m[1]], label[m[1]] = append(metrics[m[1]], m[3]), m[2]
		} else if strings.HasPrefix(lines.Text(), "evstream_") {
			t.Errorf("a metric of another shape: %s", lines.Text())
		}
	}
	if len(metrics) < 15 {
		t.Fatalf("only %d metrics are there", len(metrics))
	}

	text, err := os.ReadFile("docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	page := string(text)
	row := regexp.MustCompile("(?m)^\\| `(evstream_[a-z_]+)` \\|")
	var named []string
	for _, m := range row.FindAllStringSubmatch(page, -1) {
		if named = append(named, m[1]); metrics[m[1]] == nil {
			t.Errorf("there is no metric %s", m[1])
		}
	}
	for name, reasons := range metrics {
		if !slices.Contains(named, name) {
			t.Errorf("metric %s is missing", name)
		}
		if reasons[0] == "" {
			continue
		}
		_, table, ok := strings.Cut(page, "\n| "+label[name]+" in `"+name+"` |")
		if !ok {
			t.Errorf("the page has no reasons of %s", name)
		}
		table, _, _ = strings.Cut(table, "\n\n")
		var told []string
		for line := range strings.Lines(table) {
			first, _, _ := strings.Cut(strings.TrimPrefix(line, "| "), " |")
			for _, m := range quoted.FindAllStringSubmatch(first, -1) {
				told = append(told, m[1])
			}
		}
		slices.Sort(told)
		slices.Sort(reasons)
		if !slices.Equal(told, reasons) {
			t.Errorf("the reasons of %s are\n%q, and on the page\n%q", name, reasons, told)
		}
	}
}
