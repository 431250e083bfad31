package evstream

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestABrokerIsRenamedByARestart: a reload that gives a directory to another broker is
// refused, and says who has it; all goes on as before.
func TestABrokerIsRenamedByARestart(t *testing.T) {
	address, dir := freeAddress(t), filepath.Join(t.TempDir(), "log")
	load(t, site(address, bolt(dir, ""), allowAnything))
	base := "http://" + address + "/live"
	mustPublish(t, base+"/a", "one")
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(dir, link); err != nil {
		t.Fatal(err)
	}
	chat := "broker chat\n" + allowAnything
	for _, path := range []string{dir, link} {
		renamed := site(address, strings.Replace(bolt(path, ""), "evstream {", "evstream chat {", 1), chat)
		want := `broker "chat": opening the log: broker "default" has the directory ` + path + ` open: to rename a broker`
		if err := reload(t, renamed); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	mustPublish(t, base+"/a", "two")
	if _, body := send(t, "GET", base+"/a?poll=1&since=earliest", "", header("Accept", "application/json")); !strings.Contains(body, "one") || !strings.Contains(body, "two") {
		t.Errorf("after the refusals: %s", body)
	}
}
