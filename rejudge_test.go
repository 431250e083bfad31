package evstream

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/evstream/caddy-evstream/internal/authtest"
	"github.com/evstream/caddy-evstream/stream"
)

func TestReloadJudgesBearersAgain(t *testing.T) {
	address := freeAddress(t)
	url := "http://" + address + "/live/a"
	rules := func(b, c string) string {
		return "\t\tbearer b " + b + "\n\t\tbearer c " + c + "\n\t\tallow b all **\n\t\tallow c all **"
	}
	load(t, site(address, "", rules("one", "two")))
	changed := subscribe(t, url, header("Authorization", "Bearer one"))
	kept := subscribe(t, url, header("Authorization", "Bearer two"))
	if err := reload(t, site(address, "", rules("three", "two"))); err != nil {
		t.Fatal(err)
	}
	changed.ended()
	mustPublish(t, url, "on", header("Authorization", "Bearer three"))
	kept.expect("on")
}

// A token that nobody looked at when the stream began ends it all the same.
func TestReloadEndsStreamsThatWouldOutliveTheirToken(t *testing.T) {
	address := freeAddress(t)
	load(t, site(address, "", allowAnything))
	url := "http://" + address + "/live/a"
	alice, nobody := subscribe(t, url, authtest.Bearer(t, nil)), subscribe(t, url)
	config := "\t\tjwt {\n\t\t\tkey \"" + authtest.Secret + "\"\n\t\t}\n\t\tallow anyone subscribe **\n\t\tallow anyone publish **"
	if err := reload(t, site(address, "", config)); err != nil {
		t.Fatal(err)
	}
	alice.ended()
	again := subscribe(t, url, authtest.Bearer(t, nil))
	if err := reload(t, site(address, "", config+"\n\t\tallow anyone all c")); err != nil {
		t.Fatal(err)
	}
	mustPublish(t, url, "1")
	nobody.expect("1")
	again.expect("1")
}

// A body that goes on, and a poll that waits, have been allowed by a
// configuration that is not there any more.
func TestReloadJudgesPublishersAndPollsAgain(t *testing.T) {
	address := freeAddress(t)
	config := func(rules string) string {
		return site(address, "", "\t\tbearer backend "+"backend-secret"+"\n\t\tallow anyone subscribe b\n"+rules)
	}
	load(t, config("\t\tallow backend publish **\n\t\tallow anyone subscribe **"))
	url := "http://" + address + "/live/"
	reader, other := subscribe(t, url+"b"), subscribe(t, url+"a")
	type answer struct {
		status int
		body   string
	}
	publish := func(to, channel string) (*io.PipeWriter, chan answer) {
		body, feed := io.Pipe()
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url+to, body)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/x-ndjson")
		r.Header.Set("Authorization", "Bearer "+"backend-secret")
		answers := make(chan answer, 1)
		go func() {
			resp, err := client.Do(r)
			if err != nil {
				t.Error(err)
				return
			}
			defer resp.Body.Close()
			text, _ := io.ReadAll(resp.Body)
			answers <- answer{resp.StatusCode, string(text)}
		}()
		fmt.Fprintf(feed, "{\"channel\":%q,\"data\":\"1\"}\n", channel)
		return feed, answers
	}
	allowed, allowedAnswer := publish("_publish", "b")
	reader.expect("1")
	refused, refusedAnswer := publish("_publish", "a")
	other.expect("1")
	polls := make(map[string]chan answer)
	h := theHub(t, "default")
	for _, channel := range []string{"a", "b"} {
		cursor := h.Broker().Head().String()
		polls[channel] = make(chan answer, 1)
		go func() {
			status, body := send(t, "GET", url+channel+"?poll=1&event=later&timeout=60s&last_event_id="+cursor, "")
			polls[channel] <- answer{status, body}
		}()
	}
	eventually(t, "the polls to wait", func() bool {
		a, _ := h.Broker().Channel("a")
		b, _ := h.Broker().Channel("b")
		return a.Subscribers == 2 && b.Subscribers == 2
	})

	if err := reload(t, config("\t\tallow backend publish b")); err != nil {
		t.Fatal(err)
	}
	other.ended()
	for name, tt := range map[string]struct {
		feed    *io.PipeWriter
		line    string
		answers chan answer
		status  int
		body    string
	}{
		"allowed": {allowed, `{"channel":"b","data":"2"}`, allowedAnswer, 200, `"published":2`},
		"refused": {refused, `{"channel":"a","data":"2"}`, refusedAnswer, 403, `"published":1`},
	} {
		go func() {
			fmt.Fprintln(tt.feed, tt.line)
			tt.feed.Close()
		}()
		if got := <-tt.answers; got.status != tt.status || !strings.Contains(got.body, tt.body) {
			t.Errorf("%s: got %v", name, got)
		}
	}
	reader.expect("2")
	if got := <-polls["a"]; got.status != 401 {
		t.Errorf("the poll that is not allowed any more: %v", got)
	}
	mustPublish(t, url+"b?event=later", "3", header("Authorization", "Bearer "+"backend-secret"))
	if got := <-polls["b"]; got.status != 200 || !strings.Contains(got.body, `"data":"3"`) {
		t.Errorf("the poll that is: %v", got)
	}
}

func TestReloadEndsStreamsThatNewRulesRefuse(t *testing.T) {
	address := freeAddress(t)
	url := "http://" + address + "/live"
	load(t, site(address, "", "\t\tallow anyone subscribe,publish **"))
	kept := subscribe(t, url+"/public/a")
	refused := subscribe(t, url+"/secret/a")
	half := subscribe(t, url+"/?channel=public/b&channel=secret/b")
	pattern := subscribe(t, url+"/?channel=**")

	if err := reload(t, site(address, "", "\t\tallow anyone subscribe,publish public/**")); err != nil {
		t.Fatal(err)
	}
	for _, r := range []*caddyStream{refused, half, pattern} {
		r.ended()
	}
	mustPublish(t, url+"/public/a", "on")
	kept.expect("on")
	h := theHub(t, "default")
	eventually(t, "three streams to be refused", func() bool {
		return h.Stats().Disconnects[stream.ReasonRefused] == 3 && h.Stats().Streams == 1
	})
}
