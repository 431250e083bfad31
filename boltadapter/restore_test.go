package boltadapter

import (
	"bytes"
	"errors"
	"slices"
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
	publish(t, b, "a", "1")
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
	if newest := b.Head(); resumed(t, b, newest.String()) != nil {
		t.Error("who has read all is told of something")
	}
}

// TestReadersOfBeforeABackupAreToldOfAGap: what was published after it may have been theirs.
// They are told once, not each time that they come back, also where nothing is published.
func TestReadersOfBeforeABackupAreToldOfAGap(t *testing.T) {
	t.Parallel()
	l := openLog(t, testConfig(tempLog(t)))
	b := openBroker(t, l, broker.DefaultConfig())
	first := publish(t, b, "a", "1")
	publish(t, b, "a", "2")
	var backup bytes.Buffer
	if err := l.Backup(t.Context(), &backup); err != nil {
		t.Fatal(err)
	}
	publish(t, b, "a", "lost")
	if err := errors.Join(b.Close(), l.Close()); err != nil {
		t.Fatal(err)
	}
	dir := tempLog(t)
	if _, err := Restore(&backup, dir); err != nil {
		t.Fatal(err)
	}
	b = openBroker(t, openLog(t, testConfig(dir)), broker.DefaultConfig())
	if got := resumed(t, b, first.String()); !slices.Equal(got, []string{"gap diverged", "2"}) {
		t.Errorf("a reader of before the backup gets %q", got)
	}
	s, err := b.Subscribe(broker.SubscribeOptions{Channels: []string{"a"}, Start: broker.Start{LastEventID: first.String()}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	var batch broker.Batch
	for more := true; more; more = batch.More {
		if err := s.Read(&batch); err != nil {
			t.Fatal(err)
		}
	}
	told := s.Cursor()
	for _, since := range []string{"nothing", "restart", "publish", "restart"} {
		var want []string
		switch since {
		case "restart":
			if err := b.Close(); err != nil {
				t.Fatal(err)
			}
			b = openBroker(t, openLog(t, testConfig(dir)), broker.DefaultConfig())
		case "publish":
			publish(t, b, "a", "new")
		}
		if b.Head() != told {
			want = []string{"new"}
		}
		if got := resumed(t, b, told.String()); !slices.Equal(got, want) {
			t.Errorf("who was told, after a %s: %q, want %q", since, got, want)
		}
	}
	if got := resumed(t, b, first.String()); !slices.Equal(got, []string{"gap diverged", "2", "new"}) {
		t.Errorf("a reader of before the backup gets %q", got)
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
