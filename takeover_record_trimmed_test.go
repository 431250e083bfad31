package evstream

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// A run of which a part has left the history is never taken for whole, wherever its
// reader begins.
func TestAPartOfAnAnswerIsNotTakenForIt(t *testing.T) {
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		for i := range 10 {
			fmt.Fprintf(w, "data: %d\n\n", i)
		}
	}))
	t.Cleanup(app.Close)
	for _, history := range []string{"history 3", "history 30"} {
		address := freeAddress(t)
		load(t, strings.Replace(recordSite(address, app.URL, ""), options(""), options("evstream {\nchannel chat/* {\n"+history+"\n}\n}"), 1))
		url := "http://" + address + "/api/chat/" + strings.ReplaceAll(history, " ", "-")
		if _, err := io.ReadAll(prompt(t, url, "x").Body); err != nil {
			t.Fatal(err)
		}
		whole := history == "history 30"
		for query, most := range map[string]int{
			"": 10, "?startIndex=2": 8, "?startIndex=-2": 2, "?startIndex=-5": 5, "?startIndex=-50": 10,
			"?startIndex=-9223372036854775808": 10, "?starting_after=9223372036854775807": 0,
		} {
			resp := get(t, url+query)
			got, err := io.ReadAll(resp.Body)
			n := strings.Count(string(got), "data: ")
			switch trimmed := !whole && most != 2; {
			case err != nil, trimmed && resp.StatusCode != http.StatusGone:
				t.Errorf("%s, %s: %d, %d events, %v", history, query, resp.StatusCode, n, err)
			case !trimmed && n != most:
				t.Errorf("%s, %s: %d, %d events, want %d", history, query, resp.StatusCode, n, most)
			}
		}
	}
}
