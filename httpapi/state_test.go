package httpapi

import (
	"runtime"
	"strings"
	"testing"
)

// What a body is read into takes many times its size, and so no more of it is
// read than could be a value, or change one.
func TestABodyTakesALimitedMultipleOfItsSize(t *testing.T) {
	e := newTestHandler(t)
	if resp := ask(t, e, asBackend("PUT", "/live/a", "{}")); resp.StatusCode != 201 {
		t.Fatal(bodyOf(t, resp))
	}
	const merge, patch = "Content-Type: application/merge-patch+json", "Content-Type: application/json-patch+json"
	list := func(size int, item string) string {
		return "[" + strings.Repeat(item+",", size/(len(item)+1)-20) + "1]"
	}
	for name, tt := range map[string]struct {
		q      request
		status int
	}{
		"numbers":               {asBackend("PUT", "/live/a", list(1<<20, "1")), 413},
		"arrays":                {asBackend("PUT", "/live/a", list(1<<20, "[]")), 413},
		"a batch of numbers":    {asBackend("POST", "/live/_publish", list(1<<20, "0")), 400},
		"a batch of values":     {asBackend("POST", "/live/_publish", list(1<<20, `{"channel":"a","state":1}`)), 413},
		"many channels":         {asBackend("POST", "/live/_publish", `{"channels":`+list(1<<20, "1")+"}"), 413},
		"arrays in a batch":     {asBackend("POST", "/live/_publish", `{"channel":"a","state":`+list(1<<20, "[]")+"}"), 413},
		"a merge patch":         {asBackend("PATCH", "/live/a", `{"a":`+list(128<<10, "1")+"}", merge), 413},
		"a longer merge patch":  {asBackend("PATCH", "/live/a", `{"a":`+list(1<<20, "1")+"}", merge), 413},
		"a JSON patch":          {asBackend("PATCH", "/live/a", `[{"op":"add","path":"/a","value":`+list(128<<10, "[]")+"}]", patch), 413},
		"a longer JSON patch":   {asBackend("PATCH", "/live/a", `[{"op":"add","path":"/a","value":`+list(1<<20, "[]")+"}]", patch), 413},
		"one that copies a lot": {asBackend("PATCH", "/live/a", `[{"op":"add","path":"/a","value":`+list(60<<10, "[]")+`}`+strings.Repeat(`,{"op":"copy","from":"/a","path":"/b"}`, 900)+"]", patch), 422},
	} {
		t.Run(name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			resp := ask(t, e, tt.q)
			runtime.ReadMemStats(&after)
			took := after.TotalAlloc - before.TotalAlloc
			t.Logf("a body of %d KiB: %d KiB", len(tt.q.body)>>10, took>>10)
			if resp.StatusCode != tt.status || took > 16<<20 {
				t.Errorf("%d %s, and %d bytes were allocated", resp.StatusCode, bodyOf(t, resp), took)
			}
		})
	}
}
