package evstream

import (
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
)

// scrape reads the metrics of the hub from Caddy's admin endpoint, and their text.
func scrape(t *testing.T, admin string) (values map[string]float64, text string) {
	t.Helper()
	status, body := send(t, http.MethodGet, "http://"+admin+"/metrics", "")
	if status != http.StatusOK {
		t.Fatalf("status %d: %s", status, body)
	}
	values = make(map[string]float64)
	for line := range strings.Lines(body) {
		name := strings.TrimPrefix(strings.TrimPrefix(line, "# HELP "), "# TYPE ")
		if !strings.HasPrefix(name, "evstream_") {
			continue
		}
		text += line
		if m := sampleLine.FindStringSubmatch(line); m != nil {
			value, err := strconv.ParseFloat(m[2], 64)
			if err != nil {
				t.Fatalf("%s: %v", line, err)
			}
			values[m[1]] = value
		}
	}
	return values, text
}

var sampleLine = regexp.MustCompile(`^(evstream_[^ ]*\}) (\S+)\n$`)

// TestMetricsKeepToTheConventionsOfPrometheus is what "promtool check metrics" checks.
func TestMetricsKeepToTheConventionsOfPrometheus(t *testing.T) {
	address, admin := freeAddress(t), freeAddress(t)
	load(t, withAdmin(admin, address, "", allowAnything))
	values, text := scrape(t, admin)
	problems, err := promlint.New(strings.NewReader(text)).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
	if len(values) < 100 {
		t.Errorf("there are only %d samples:\n%s", len(values), text)
	}
}

// TestMetricsAgreeWithTheTruthOver20Reloads counts outside what happens, and compares.
func TestMetricsAgreeWithTheTruthOver20Reloads(t *testing.T) {
	address, admin := freeAddress(t), freeAddress(t)
	url := "http://" + address + "/live/"
	config := func(n int) string {
		return withAdmin(admin, address, fmt.Sprintf("\tevstream {\n\t\tmax_channels %d\n\t}\n\tservers {\n\t\tprotocols h1 h2c\n\t}", n+10), allowAnything+"\n\t\theartbeat off")
	}
	load(t, config(0))
	truth := map[string]float64{}
	count := func(name, labels string, n float64) {
		if labels != "" {
			labels = "," + labels
		}
		truth["evstream_"+name+`{broker="default"`+labels+"}"] += n
	}
	var streams []*caddyStream
	agrees := func(when string) {
		t.Helper()
		bytes := 0
		for _, s := range streams {
			bytes += s.read.n
		}
		truth[`evstream_stream_bytes_total{broker="default"}`] = float64(bytes)
		var values map[string]float64
		differing := func() (list []string) {
			values, _ = scrape(t, admin)
			for name, want := range truth {
				if got, ok := values[name]; !ok || got != want {
					list = append(list, fmt.Sprintf("%s is %v, and in truth %v", name, got, want))
				}
			}
			return list
		}
		for began := 0; len(differing()) > 0; began++ {
			if began > 200 {
				t.Fatalf("%s:\n%s", when, strings.Join(differing(), "\n"))
			}
		}
	}
	open := func(n int, protocol, delivery string) {
		for range n {
			streams = append(streams, subscribe(t, url+"a"))
		}
		count("connections", "", float64(n))
		count("sessions", `delivery="`+delivery+`",protocol="`+protocol+`"`, float64(n))
	}
	// Each event is read by all before the next one: it is a write for each.
	publish := func(data string) {
		t.Helper()
		mustPublish(t, url+"a", data)
		for _, s := range streams {
			s.expect(data)
		}
		n := float64(len(streams))
		count("events_published_total", "", 1)
		count("publishes_total", `result="stored"`, 1)
		count("published_bytes_total", "", float64(len(data)))
		count("log_append_duration_seconds_count", "", 1)
		count("events_delivered_total", "", n)
		count("delivery_lag_seconds_count", "", n)
	}
	ask := func(want int, result, method, path, body string, change ...func(*http.Request)) {
		t.Helper()
		if status, answer := send(t, method, url+path, body, change...); status != want {
			t.Fatalf("%s %s is answered %d %s", method, path, status, answer)
		}
		count("publishes_total", `result="`+result+`"`, 1)
		count("log_append_duration_seconds_count", "", 1)
	}
	open(3, "http/1", "detached")
	plain := client
	defer func() { client = plain }()
	var h2c http.Protocols
	h2c.SetUnencryptedHTTP2(true)
	client = &http.Client{Transport: &http.Transport{Protocols: &h2c}}
	open(2, "http/2", "attached")
	client = plain

	some := func(data string) {
		publish(data) // each once: mustPublish makes a key of it
		key := header("Idempotency-Key", `"`+fmt.Sprint(truth[`evstream_events_published_total{broker="default"}`])+`"`)
		ask(200, "stored", "POST", "quiet", "x", key)
		count("published_bytes_total", "", 1)
		count("events_published_total", "", 1)
		ask(200, "repeated", "POST", "quiet", "x", key)
		ask(422, "key_reused", "POST", "quiet", "y", key)
		if status, _ := post(t, url+"quiet?event=evstream.x", "x"); status != 400 { // it comes to no broker
			t.Errorf("a reserved type is answered %d", status)
		}
		ask(412, "conflict", "PUT", "value", "1", header("If-Match", `"1-1"`))
		count("state_refused_total", "", 1)
		ask(201, "stored", "PUT", "value", "12")
		ask(200, "unchanged", "PUT", "value", "12")
		ask(200, "stored", "DELETE", "value", "")
		count("state_writes_total", "", 2)
		count("published_bytes_total", "", 2)
	}
	some("an event")
	agrees("before the reloads")
	before := maps.Clone(truth)
	for i := range 20 {
		if err := reload(t, config(i+1)); err != nil {
			t.Fatal(err)
		}
	}
	agrees("after 20 reloads")
	if !maps.Equal(before, truth) {
		t.Error("something was delivered meanwhile")
	}
	some("another event")
	agrees("after more was published")

	for _, s := range streams {
		s.cancel()
	}
	count("disconnects_total", `reason="client"`, 5)
	for name := range truth {
		if strings.HasPrefix(name, "evstream_sessions{") || strings.HasPrefix(name, "evstream_connections{") {
			truth[name] = 0
		}
	}
	agrees("when all have left")
}
