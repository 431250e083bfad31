package evstream

import (
	"io"
	"strings"
	"testing"
)

// A status that is none is a mistake of the application, as it is without a recorder.
func TestAStatusThatIsNoneBreaksOneAnswer(t *testing.T) {
	for _, status := range []string{"000", "099"} {
		address := freeAddress(t)
		load(t, recordSite(address, rawApp(t, "HTTP/1.1 "+status+" X\r\nContent-Length: 2\r\n\r\nhi"), ""))
		resp, err := client.Post("http://"+address+"/api/chat/7", "", strings.NewReader("{}"))
		if err == nil {
			got, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if resp.StatusCode < 500 {
				t.Errorf("%s: %d %q %v", status, resp.StatusCode, got, err)
			}
		}
		eventually(t, "the channel to be free", func() bool { return recordedState(t, "chat/7") == "" })
	}
}
