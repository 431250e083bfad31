package evstream

import (
	"bytes"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"

	"github.com/evstream/caddy-evstream/cli/logs"
)

// bolt is the global option with a log in a directory.
func bolt(dir, more string) string {
	return "\tevstream {\n\t\tadapter bolt " + dir + " {\n" + more + "\n\t\t}\n\t}"
}

func TestALogOnTheDiskOutlivesItsConfiguration(t *testing.T) {
	address, admin, dir := freeAddress(t), freeAddress(t), filepath.Join(t.TempDir(), "log")
	load(t, withAdmin(admin, address, bolt(dir, ""), allowAnything))
	awaitReady(t, admin)
	base := "http://" + address + "/live"
	open := subscribe(t, base+"/a")
	mustPublish(t, base+"/a", "one")
	open.expect("one")

	// A changed bound keeps the log, and the stream.
	again := func(global string) {
		t.Helper()
		if err := reload(t, withAdmin(admin, address, global, allowAnything)); err != nil {
			t.Fatal(err)
		}
		awaitReady(t, admin)
	}
	again(bolt(dir, "\t\t\tretain 64MiB"))
	mustPublish(t, base+"/a", "two")
	open.expect("two")

	// Another path is another log.
	other := filepath.Join(t.TempDir(), "other")
	again(bolt(other, ""))
	if _, body := send(t, "GET", base+"/a?poll=1&since=earliest", "", header("Accept", "application/json")); strings.Contains(body, "one") {
		t.Errorf("the other log has %s", body)
	}
	// The first one is there when it comes back.
	again(bolt(dir, ""))
	_, body := send(t, "GET", base+"/a?poll=1&since=earliest", "", header("Accept", "application/json"))
	if !strings.Contains(body, `"data":"one"`) || !strings.Contains(body, `"data":"two"`) {
		t.Errorf("after a change to another log and back: %s", body)
	}
}

func TestAConfigurationIsValidatedBesideTheCaddyThatHasTheLog(t *testing.T) {
	address, dir := freeAddress(t), filepath.Join(t.TempDir(), "log")
	startCaddy(t, func(admin string) string { return withAdmin(admin, address, bolt(dir, ""), allowAnything) })
	if err := validate(t, site(freeAddress(t), bolt(dir, ""), allowAnything)); err != nil {
		t.Error(err)
	}
	t.Cleanup(func() { _ = caddy.Stop() })
	if err := reload(t, site(freeAddress(t), bolt(dir, ""), allowAnything)); err == nil || !strings.Contains(err.Error(), "another process has the log open") {
		t.Errorf("a second Caddy with the directory: %v", err)
	}
	two := bolt(dir, "") + "\n" + strings.Replace(bolt(dir, ""), "evstream {", "evstream a {", 1)
	if want, err := `broker "default": the directory `+dir+` is that of broker "a"`, validate(t, options(two)); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("two brokers with one directory: %v", err)
	}
}

func TestAnOperatorBacksUpAndRestoresTheLog(t *testing.T) {
	address, admin, dir := freeAddress(t), freeAddress(t), filepath.Join(t.TempDir(), "log")
	load(t, withAdmin(admin, address, bolt(dir, "")+"\n\tevstream volatile", allowAnything))
	mustPublish(t, "http://"+address+"/live/a", "kept")
	base := "http://" + admin + "/evstream"
	backup, restored := filepath.Join(t.TempDir(), "b.tar"), filepath.Join(t.TempDir(), "restored")
	status, body := send(t, "GET", base+"/_backup", "")
	if err := os.WriteFile(backup, []byte(body), 0o600); err != nil || status != http.StatusOK {
		t.Fatal(status, err)
	}
	if status, body := send(t, "POST", base+"/_compact", ""); status != http.StatusOK || !strings.Contains(body, `"after":`) || strings.Contains(body, `"after":0`) {
		t.Errorf("compacting: %d %s", status, body)
	}
	for _, tt := range []struct {
		method, path string
		status       int
		want         string
	}{
		{"POST", "/_backup", 405, "takes GET, not POST"},
		{"GET", "/_compact", 405, "takes POST, not GET"},
		{"GET", "/_backup?broker=volatile", 404, `broker \"volatile\" has no log on the disk`},
		{"GET", "/_backup?broker=x", 404, `there is no broker \"x\"`},
	} {
		if status, body := send(t, tt.method, base+tt.path, ""); status != tt.status || !strings.Contains(body, tt.want) {
			t.Errorf("%s %s: %d %s", tt.method, tt.path, status, body)
		}
	}

	run := func(args ...string) (string, error) {
		cmd := logs.Restore()
		if args[0] == "check" {
			cmd = logs.Command(logDirectory)
		}
		var out bytes.Buffer
		cmd.SetOut(&out)
		cmd.SetErr(&out)
		cmd.SetArgs(append([]string{}, args...)) // nil would be those of the tests
		cmd.SilenceErrors, cmd.SilenceUsage = true, true
		err := cmd.Execute()
		return out.String(), err
	}
	if out, err := run(backup, restored); err != nil || !strings.Contains(out, ": 1 event in 1 file,") {
		t.Errorf("restoring: %q, %v", out, err)
	}
	if _, err := run(backup, restored); err == nil {
		t.Error("a directory with a log is overwritten")
	}
	if out, err := run("check", restored); err != nil || !strings.Contains(out, ": 1 event in 1 file,") {
		t.Errorf("checking: %q, %v", out, err)
	}
	if _, err := run("check", dir); err == nil || !strings.Contains(err.Error(), "another process has the log open") {
		t.Errorf("checking a log in use: %v", err)
	}
	files, err := filepath.Glob(filepath.Join(restored, "segments", "*", "*.log"))
	if err != nil || len(files) != 1 {
		t.Fatal(files, err)
	}
	data, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	data[20] ^= 1
	if err := os.WriteFile(files[0], data, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := run("check", restored); err == nil || !strings.Contains(err.Error(), files[0]+" is damaged") {
		t.Errorf("checking a damaged log: %v", err)
	}
	if err := reload(t, withAdmin(admin, address, bolt(restored, ""), allowAnything)); err == nil || !strings.Contains(err.Error(), "is damaged at byte") {
		t.Errorf("running a damaged log: %v", err)
	}
	if status, body := send(t, "GET", "http://"+address+"/live/a?poll=1&since=earliest", "", header("Accept", "application/json")); !strings.Contains(body, "kept") {
		t.Errorf("after a reload that failed: %d %s", status, body)
	}
}

// The page is followed from top to bottom: Caddy runs where the commands need one, and
// is stopped where they need that.
func TestTheDurabilityPageIsTrue(t *testing.T) {
	text, err := os.ReadFile("docs/durability.md")
	if err != nil {
		t.Fatal(err)
	}
	fences := regexp.MustCompile("(?ms)^```(\\w+)\n(.*?)^```$").FindAllStringSubmatch(string(text), -1)
	if len(fences) != 5 || fences[0][1] != "caddyfile" {
		t.Fatalf("the page has other fences than this test tries: %d", len(fences))
	}
	address := freeAddress(t)
	caddy := startCaddy(t, func(admin string) string {
		config := strings.Replace(fences[0][2], "localhost:8080", address, 1)
		return strings.Replace(config, "{\n", "{\n\tadmin "+admin+"\n\tpersist_config off\n", 1)
	})
	mustPublish(t, "http://"+address+"/live/a", "kept")

	home := filepath.Dir(caddy.cmd.Args[3])
	self := filepath.Join(home, "caddy")
	if err := os.Symlink(os.Args[0], filepath.Join(home, "bin")); err != nil {
		t.Fatal(err)
	}
	run := func(script string) {
		t.Helper()
		cmd := exec.Command("sh", "-ec", strings.NewReplacer(
			"/var/lib/caddy/.local/share/caddy", self, "localhost:2019", caddy.admin, "caddy evstream", filepath.Join(home, "bin")+" evstream",
		).Replace(script))
		cmd.Env = append(caddy.cmd.Env, "CADDY_ADMIN="+caddy.admin)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", script, err, out)
		}
	}
	run(fences[4][2]) // compact
	run(fences[1][2]) // backup
	caddy.stop()
	run(fences[2][2]) // restore
	run(fences[3][2]) // check
	files, err := filepath.Glob(filepath.Join(home, "caddy", "evstream", "default", "segments", "*", "*.log"))
	if err != nil || len(files) != 1 {
		t.Errorf("the restored log has the files %v, %v", files, err)
	}
}
