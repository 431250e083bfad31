package evstream

import (
	"net/http"
	"os"
	"strings"
	"testing"
)

// TestTheChartTellsHealthAndMetricsAndNothingElse runs the site that the Helm chart has for
// probes and Prometheus.
func TestTheChartTellsHealthAndMetricsAndNothingElse(t *testing.T) {
	text, err := os.ReadFile("deploy/helm/evstream/templates/_helpers.tpl")
	if err != nil {
		t.Fatal(err)
	}
	_, site, begins := strings.Cut(string(text), "\nhttp://:8081 {\n")
	site, _, ends := strings.Cut(site, "\n}\n")
	if !begins || !ends || strings.Contains(site, "{{") {
		t.Fatalf("the chart has no site http://:8081 that the test can read, but\n%s", site)
	}
	admin, address := freeAddress(t), freeAddress(t)
	site = strings.Replace(site, "localhost:2019", admin, 1)
	load(t, withAdmin(admin, freeAddress(t), "", allowAnything)+"http://"+address+" {\n"+site+"\n}\n")
	for _, c := range []struct {
		path   string
		status int
		part   string
	}{
		{"/metrics", http.StatusOK, "\nevstream_"},
		{livePath, http.StatusOK, `"live"`},
		{readyPath + "?exclude=room&exclude=loading", http.StatusOK, `"ready"`},
		{"/", http.StatusNotFound, ""},
		{adminMount + "/_channels", http.StatusNotFound, ""},
		{"/config/", http.StatusNotFound, ""},
	} {
		status, body := send(t, http.MethodGet, "http://"+address+c.path, "")
		if status != c.status || !strings.Contains(body, c.part) {
			t.Errorf("%s: %d, without %q: %.300s", c.path, status, c.part, body)
		}
	}
}
