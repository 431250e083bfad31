package hub

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/evstream/caddy-evstream/broker"
)

func TestRulesWaitOnlyForSchemasWhoseTurnsAreTaken(t *testing.T) {
	file := filepath.Join(t.TempDir(), "schema.json")
	if err := os.WriteFile(file, []byte(`{"type":"object"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	rules, err := NewPublishRules([]PublishRule{{Pattern: "checked/**", Schema: file}})
	if err != nil {
		t.Fatal(err)
	}
	h := new(Hub)
	h.limits.schemaTurns = newSchemaTurns(2)
	h.limits.rules.Store(rules)
	checked, free := broker.Op{Kind: broker.KindEvent, Channel: "checked/1"}, broker.Op{Kind: broker.KindEvent, Channel: "free"}
	if h.RulesWait([]broker.Op{checked}) {
		t.Error("it waits although there is a turn")
	}
	if err := h.limits.schemaTurns.acquire(t.Context()); err != nil {
		t.Fatal(err)
	}
	if h.RulesWait([]broker.Op{free}) || !h.RulesWait([]broker.Op{free, checked}) {
		t.Error("it waits without a schema, or does not with one")
	}
	h.limits.rules.Store(nil)
	if h.RulesWait([]broker.Op{checked}) {
		t.Error("it waits without rules")
	}
}
