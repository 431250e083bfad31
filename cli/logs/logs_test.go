package logs

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestRestoreSaysWhatIsNoBackup(t *testing.T) {
	t.Parallel()
	text := filepath.Join(t.TempDir(), "text")
	if err := os.WriteFile(text, bytes.Repeat([]byte("no backup\n"), 200), 0o600); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "log")
	for _, tt := range []struct{ args, want string }{
		{"", "restore needs a backup and a directory, and got 0 arguments: caddy evstream restore <backup> <directory>"},
		{os.DevNull, "restore needs a backup and a directory, and got 1 arguments: caddy evstream restore <backup> <directory>"},
		{os.DevNull + " " + dir, "the backup is empty"},
		{text + " " + dir, "this is no backup of a log: archive/tar: invalid tar header"},
	} {
		cmd := Restore()
		cmd.SetArgs(strings.Fields(tt.args))
		cmd.SilenceErrors, cmd.SilenceUsage = true, true
		if err := cmd.Execute(); err == nil || err.Error() != tt.want {
			t.Errorf("restore %s: %v, want %s", tt.args, err, tt.want)
		}
	}
	if left, _ := filepath.Glob(dir + "*"); len(left) > 0 {
		t.Errorf("left %v", left)
	}
}
