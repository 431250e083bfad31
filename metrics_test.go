package evstream

import (
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"testing"
)

// metric reads one number from Caddy's admin endpoint.
func metric(t *testing.T, admin, name string) string {
	t.Helper()
	status, body := send(t, http.MethodGet, "http://"+admin+"/metrics", "")
	if status != http.StatusOK {
		t.Fatalf("status %d: %s", status, body)
	}
	found := regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(name) + ` (.*)$`).FindStringSubmatch(body)
	if found == nil {
		t.Fatalf("there is no %s in\n%s", name, body)
	}
	return found[1]
}

func TestMetricsAreRightAcrossReloads(t *testing.T) {
	address, admin := freeAddress(t), freeAddress(t)
	url := "http://" + address + "/live/secret.channel"
	config := func(n int) string {
		return withAdmin(admin, address, fmt.Sprintf("\tevstream {\n\t\tmax_channels %d\n\t}\n\tevstream chat", n), allowAnything)
	}
	load(t, config(1))
	expect := func(name, want string) {
		t.Helper()
		eventually(t, name+" to be "+want, func() bool { return metric(t, admin, name) == want })
	}
	expect(`evstream_connections{broker="default"}`, "0")
	expect(`evstream_disconnects_total{broker="default",reason="client"}`, "0")

	one, two := subscribe(t, url), subscribe(t, url)
	mustPublish(t, url, "a")
	for i := range 5 {
		if err := reload(t, config(i+2)); err != nil {
			t.Fatal(err)
		}
		expect(`evstream_connections{broker="default"}`, "2")
		expect(`evstream_connections{broker="chat"}`, "0")
		expect(`evstream_events_published_total{broker="default"}`, "1")
	}
	mustPublish(t, url, "b")
	one.expect("a")
	one.expect("b")
	two.expect("a")
	two.expect("b")
	expect(`evstream_events_published_total{broker="default"}`, "2")
	expect(`evstream_events_delivered_total{broker="default"}`, "4")
	expect(`evstream_channels{broker="default"}`, "1")
	expect(`evstream_gaps_total{broker="default"}`, "0")
	if got := metric(t, admin, `evstream_history_bytes{broker="default"}`); got == "0" {
		t.Error("the history takes no memory")
	}
	two.cancel()
	expect(`evstream_connections{broker="default"}`, "1")
	expect(`evstream_disconnects_total{broker="default",reason="client"}`, "1")
	foreign := subscribe(t, url, header("Last-Event-ID", "9-9"))
	expect(`evstream_gaps_total{broker="default"}`, "1")
	foreign.cancel()

	_, body := send(t, http.MethodGet, "http://"+admin+"/metrics", "")
	if strings.Contains(body, "secret.channel") {
		t.Error("a channel's name is in the metrics")
	}
}

func TestRefusedSubscribersAreCounted(t *testing.T) {
	address, admin := freeAddress(t), freeAddress(t)
	load(t, withAdmin(admin, address, "\tevstream {\n\t\tmax_connections 1\n\t}", allowAnything))
	subscribe(t, "http://"+address+"/live/a")
	over := connect(t, "http://"+address+"/live/a")
	if over.status != http.StatusOK {
		t.Errorf("the second stream is answered %d", over.status)
	}
	over.ended()
	name := `evstream_subscribe_refused_total{broker="default",reason="max_connections"}`
	if got := metric(t, admin, name); got != "1" {
		t.Errorf("%s is %s", name, got)
	}
}
