package grip

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/evstream/caddy-evstream/hub"
)

// A retry holds for the whole connection of a reader, also for its other channels.
func TestAPublisherWithGRIPKeepsNoReaderAway(t *testing.T) {
	p := newPublisher(t)
	for content, want := range map[string]int{`retry: 3600000\ndata: x\n\n`: 200, `retry: 3600001\ndata: x\n\n`: 400, `retry: 99999999999999999999\ndata: x\n\n`: 400} {
		w := send(p, "POST", `{"items":[{"channel":"a","http-stream":{"content":"`+content+`"}}]}`)
		if w.Code != want || want == 400 && !strings.Contains(w.Body.String(), "at most 3600000 are allowed") {
			t.Errorf("%s: %d %s", content, w.Code, w.Body)
		}
	}
}

// What is published by GRIP fits what a channel takes, whatever its type is.
func TestNoTypeOfAnEventPassesTheRulesOfAChannel(t *testing.T) {
	p := newPublisher(t)
	file := filepath.Join(t.TempDir(), "schema.json")
	if err := os.WriteFile(file, []byte(`{"type":"number"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	rules, err := hub.NewPublishRules([]hub.PublishRule{{Pattern: "a", Schema: file}})
	if err != nil {
		t.Fatal(err)
	}
	config := p.Hub.Config()
	config.Rules = rules
	if err := p.Hub.SetConfig(config); err != nil {
		t.Fatal(err)
	}
	for content, want := range map[string]int{`"content":"data: 1\n\n"`: 200, `"content":"data: x\n\n"`: 400, `"content":"event: grip\ndata: x\n\n"`: 400, `"action":"close"`: 200} {
		if w := send(p, "POST", `{"items":[{"channel":"a","http-stream":{`+content+`}}]}`); (w.Code == 200) != (want == 200) {
			t.Errorf("%s: %d %s", content, w.Code, w.Body)
		}
	}
}
