package evstream

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// The first interrupt drains the streams over two seconds, 10 ms for each; the second
// does not wait, and the streams that are left see a fault, after which clients come
// back, and no proper end.
func TestASecondInterruptEndsTheExitAtOnce(t *testing.T) {
	inBothModes(t, func(t *testing.T, mode mode) {
		address := freeAddress(t)
		p := startCaddy(t, func(admin string) string {
			return fmt.Sprintf("{\n\tadmin %s\n\tpersist_config off\n\tauto_https off\n}\nhttp://%s {\n\tevstream /live/* {\n%s\n\t}\n}\n", admin, address, mode.block("drain 30s"))
		})
		streams := make([]*caddyStream, 200)
		for i := range streams {
			streams[i] = subscribe(t, "http://"+address+"/live/a")
		}
		interrupt := func() {
			if err := p.cmd.Process.Signal(os.Interrupt); err != nil {
				t.Fatal(err)
			}
		}
		interrupt()
		eventually(t, "the exit to begin", func() bool {
			resp, err := client.Get("http://" + address + "/live/a?poll=1")
			if err != nil {
				return true
			}
			defer resp.Body.Close()
			return resp.StatusCode == http.StatusServiceUnavailable
		})
		interrupt()
		var err error
		select {
		case err = <-p.ended:
			p.ended <- err
		case <-time.After(patience):
			t.Fatal("Caddy does not exit")
		}
		if status, ok := errors.AsType[*exec.ExitError](err); !ok || status.ExitCode() != 2 {
			t.Errorf("Caddy ended with %v, want the exit status 2", err)
		}
		log := p.log.String()
		if !strings.Contains(log, "a second ^C does not wait") || !strings.Contains(log, "force quit") {
			t.Errorf("logged is\n%s", log)
		}
		cut := 0
		for _, s := range streams {
			var err error
			for err == nil {
				_, err = s.events.Next()
			}
			if !errors.Is(err, io.EOF) {
				cut++
			}
		}
		if cut == 0 {
			t.Error("all streams ended properly")
		}
		t.Logf("%d of %d streams were cut", cut, len(streams))
	})
}
