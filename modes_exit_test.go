package evstream

import (
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
)

// Caddy's server waits for the streams that are attached, and knows nothing of
// those that are detached. One of them does not read.
func TestExitTellsEveryStreamOfBothModesAndLogsIt(t *testing.T) {
	inBothModes(t, func(t *testing.T, mode mode) {
		address := freeAddress(t)
		d := logDir{t, t.TempDir()}
		p := startCaddy(t, func(admin string) string {
			return fmt.Sprintf("{\n\tadmin %s\n\tpersist_config off\n\tauto_https off\n}\nhttp://%s {\n\tlog {\n\t\t%s\n\t}\n\tevstream /live/* {\n%s\n\t}\n}\n",
				admin, address, d.output("all"), mode.block("drain 700ms\n\t\twrite_timeout 10m"))
		})
		const read = 60
		var streams []*caddyStream
		for range read {
			streams = append(streams, subscribe(t, "http://"+address+"/live/a"))
		}
		stalled, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer stalled.Close()
		fmt.Fprintf(stalled, "GET /live/big HTTP/1.1\r\nHost: %s\r\nAccept: text/event-stream\r\n\r\n", address)
		name := `evstream_connections{broker="default"}`
		eventually(t, "the last stream", func() bool { return metric(t, p.admin, name) == fmt.Sprint(read+1) })
		data := strings.Repeat("x", 200<<10)
		for range 60 { // more than the sockets' buffers hold
			if status, body := post(t, "http://"+p.admin+"/evstream/big", data); status != http.StatusOK {
				t.Fatalf("publishing: %d %s", status, body)
			}
		}
		p.stop()
		for _, s := range streams {
			s.ended()
		}
		reasons := map[any]int{}
		for _, line := range d.lines(http.MethodGet) {
			reasons[line["evstream_reason"]]++
		}
		if reasons["shutdown"]+reasons["slow"] != read+1 || reasons["shutdown"] < read {
			t.Errorf("logged are %v", reasons)
		}
	})
}
