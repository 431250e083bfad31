package evstream

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
)

// The log says why an answer did not become a stream, and the line of one that did is
// written when it has ended, with the request as the client made it.
func TestTheLogTellsWhatBecameOfAnAnswer(t *testing.T) {
	app := strings.TrimPrefix(answers(t).URL, "http://")
	var open atomic.Int32
	handsOver := strings.TrimPrefix(users(t, &open), "http://")
	address := freeAddress(t)
	d := logDir{t, t.TempDir()}
	load(t, options("\tlog {\n\t\t"+d.output("server")+"\n\t}")+fmt.Sprintf(`http://%s {
	log {
		%s
	}
	evstream {
		handoff
	}
	reverse_proxy /app/* %s
	handle_path /scores/* {
		evstream {
			handoff
		}
		uri replace /room /elsewhere
		reverse_proxy %s
	}
}
`, address, d.output("access"), app, handsOver))
	for path, reason := range map[string]string{
		"/app/gzip":    "it is compressed with \\\"gzip\\\", though it was asked for without",
		"/app/endless": "its body has more than 262144 bytes: publish what comes later",
		"/app/dies":    "its body was cut off",
	} {
		if status, _ := send(t, "POST", "http://"+address+path+"?q=1", ""); status != http.StatusBadGateway {
			t.Errorf("%s: %d", path, status)
		}
		eventually(t, "the log to have the reason of "+path, func() bool {
			text, err := os.ReadFile(filepath.Join(d.dir, "server.log"))
			if err != nil {
				return false
			}
			return slices.ContainsFunc(strings.Split(string(text), "\n"), func(line string) bool {
				return strings.Contains(line, `"level":"error"`) && strings.Contains(line, `"the answer of an application cannot become a stream"`) &&
					strings.Contains(line, reason) && strings.Contains(line, `"uri":"`+path+`?q=1"`)
			})
		})
	}
	s := subscribe(t, "http://"+address+"/scores/room?user=ann")
	written := func() []map[string]any {
		return slices.DeleteFunc(d.lines("GET"), func(line map[string]any) bool { return line["file"] != "access.log" })
	}
	if lines := written(); len(lines) != 0 {
		t.Errorf("while the stream is open: %v", lines)
	}
	s.cancel()
	eventually(t, "the line of the stream", func() bool { return len(written()) > 0 })
	lines := written()
	if line := lines[0]; len(lines) != 1 || uri(line) != "/scores/room?user=ann" || line["status"] != 200.0 || line["evstream_reason"] == nil || strings.Contains(fmt.Sprint(line["resp_headers"]), "Evstream-") {
		t.Errorf("the lines are %v", lines)
	}
}
