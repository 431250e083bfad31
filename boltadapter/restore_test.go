package boltadapter

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/evstream/caddy-evstream/broker"
)

// TestReadersOfAfterABackupAreToldOfAGap: also one whose cursor is not above the newest id
// any more, because something was published since the restore, and after a restart.
func TestReadersOfAfterABackupAreToldOfAGap(t *testing.T) {
	t.Parallel()
	l := openLog(t, testConfig(tempLog(t)))
	b := openBroker(t, l, broker.DefaultConfig())
	before := publish(t, b, "a", "1")
	var backup bytes.Buffer
	if err := l.Backup(t.Context(), &backup); err != nil {
		t.Fatal(err)
	}
	after := publish(t, b, "a", "2")
	publish(t, b, "a", "lost")
	if err := errors.Join(b.Close(), l.Close()); err != nil {
		t.Fatal(err)
	}
	dir := tempLog(t)
	if _, err := Restore(&backup, dir); err != nil {
		t.Fatal(err)
	}
	b = openBroker(t, openLog(t, testConfig(dir)), broker.DefaultConfig())
	for _, since := range []string{"nothing", "publish", "restart", "restart"} {
		switch since {
		case "publish":
			publish(t, b, "a", "new")
		case "restart":
			if err := b.Close(); err != nil {
				t.Fatal(err)
			}
			b = openBroker(t, openLog(t, testConfig(dir)), broker.DefaultConfig())
		}
		got := resumed(t, b, after.String())
		if len(got) == 0 || !strings.HasPrefix(got[0], "gap ") {
			t.Errorf("after the lost %s, since then a %s: %q, want a gap", after, since, got)
		}
	}
	if got := resumed(t, b, before.String()); len(got) != 1 || got[0] != "new" {
		t.Errorf("after what the backup has: %q", got)
	}
	if newest := b.Head(); resumed(t, b, newest.String()) != nil {
		t.Error("who has read all is told of something")
	}
}

func TestManyVoidsAreBounded(t *testing.T) {
	t.Parallel()
	var m mark
	for i := range uint64(maxVoid + 5) {
		m.addVoid(broker.ID{Ms: 10 * i}, broker.ID{Ms: 10*i + 5})
	}
	m.addVoid(broker.ID{Ms: 9999}, broker.ID{Ms: 9999})
	if n := len(m.Void); n != maxVoid || m.Void[0] != (void{After: jsonID{0, 0}, To: jsonID{55, 0}}) {
		t.Errorf("%d voids, the first is %v", n, m.Void[0])
	}
	if got := m.issued(broker.ID{Ms: 3}); got.Ms != 10*(maxVoid+4)+5 {
		t.Errorf("issued up to %s", got)
	}
}
