package evstream

import (
	"bytes"
	"fmt"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestADiskThatFailsStopsPublishersOnly: a sync of Caddy's log fails, which strace has it do.
// The outcome of the publish that was under way is unknown; the next ones are refused and say
// why; streams and reads go on, and a restart takes what the disk has.
func TestADiskThatFailsStopsPublishersOnly(t *testing.T) {
	strace, err := exec.LookPath("strace")
	if err != nil {
		t.Fatal("strace has a disk fail, and is not installed: scripts/setup.sh does that")
	}
	address, dir := freeAddress(t), filepath.Join(t.TempDir(), "log")
	config := func(admin string) string {
		return withAdmin(admin, address, "\tmetrics\n"+bolt(dir, ""), "\t\tallow anyone subscribe,publish,state **")
	}
	first := startCaddy(t, config)
	awaitReady(t, first.admin)
	base := "http://" + address + "/live/"
	stream := subscribe(t, base+"a")
	mustPublish(t, base+"a", "one")
	stream.expect("one")
	metric := func(want string) bool {
		_, body := send(t, "GET", "http://"+first.admin+"/metrics", "")
		return strings.Contains(body, `evstream_log_up{broker="default"} `+want)
	}
	if !metric("1") {
		t.Error("the log is not said to be up")
	}

	var said bytes.Buffer
	fails := exec.Command(strace, "-f", "-qq", "-p", fmt.Sprint(first.cmd.Process.Pid), "-e", "trace=fdatasync", "-e", "inject=fdatasync:error=EIO")
	fails.Stdout, fails.Stderr = &said, &said
	if err := fails.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- fails.Wait() }()
	status, body := 0, ""
	eventually(t, "a sync to fail", func() bool {
		status, body = post(t, base+"a", "two")
		return status != http.StatusOK
	})
	if status != http.StatusServiceUnavailable || !strings.Contains(body, `"outcome":"unknown"`) {
		t.Errorf("the publish that was under way: %d %s", status, body)
	}
	if err := fails.Process.Signal(syscall.SIGINT); err != nil { // the disk is well again, which proves nothing
		t.Fatal(err)
	}
	<-ended
	if status, body := post(t, base+"a", "three"); status != http.StatusServiceUnavailable || strings.Contains(body, "unknown") || !strings.Contains(body, "the disk of the log failed: nothing is stored until the server is started again") {
		t.Errorf("the next one: %d %s", status, body)
	}
	eventually(t, "the metric to say that it is down", func() bool { return metric("0") })
	if s := connect(t, base+"a"); s.status != http.StatusOK {
		t.Errorf("a new stream: %d", s.status)
	}
	_, history := send(t, "GET", base+"a?poll=1&since=earliest", "", header("Accept", "application/json"))
	if !strings.Contains(history, `"data":"one"`) || strings.Contains(history, "three") {
		t.Errorf("what is read is %s", history)
	}
	if err := first.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	first.ended <- <-first.ended

	startCaddy(t, config)
	mustPublish(t, base+"a", "four")
	_, history = send(t, "GET", base+"a?poll=1&since=earliest", "", header("Accept", "application/json"))
	if !strings.Contains(history, `"data":"one"`) || !strings.Contains(history, `"data":"four"`) || strings.Contains(history, "three") {
		t.Errorf("after a restart: %s", history)
	}
}
