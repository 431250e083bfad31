package evstream

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// BenchmarkHooksHoldUpNoStream measures how long an event takes to a reader, while four
// loops connect, disconnect and set values, which hooks tell, with a receiver that fails:
// "good" is the same in the rounds between, with one that answers.
//
//	go test . -run xxx -bench HooksHoldUpNoStream -benchtime 1x
func BenchmarkHooksHoldUpNoStream(b *testing.B) {
	for _, tt := range []struct {
		name   string
		answer func(w http.ResponseWriter, r *http.Request)
	}{
		{"is down", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }},
		{"is slow", func(_ http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body) // so that the end of the connection is seen
			<-r.Context().Done()
		}},
		{"answers 410", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusGone) }},
		{"answers 500", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) }},
		{"redirects", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
		}},
	} {
		b.Run(tt.name, func(b *testing.B) {
			rounds, second := 5, time.Second
			if testing.Short() {
				rounds, second = 1, 50*time.Millisecond // shows that it runs
			}
			var told atomic.Int64
			app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/bad" {
					told.Add(1)
					tt.answer(w, r)
				}
			}))
			defer app.Close()
			defer app.CloseClientConnections()
			address := freeAddress(b)
			config := func(path string) string {
				return site(address, "\tevstream {\n\t\ton connected disconnected channel_active channel_idle state_changed "+app.URL+path+"\n\t}\n", allowAnything)
			}
			load(b, config("/good"))
			url := "http://" + address + "/live/"
			reader := subscribe(b, url+"measured")
			var good, bad []time.Duration
			for range b.N {
				for range rounds {
					for _, to := range []struct {
						path string
						list *[]time.Duration
					}{{"/good", &good}, {"/bad", &bad}} {
						if err := reload(b, config(to.path)); err != nil {
							b.Fatal(err)
						}
						*to.list = append(*to.list, beside(b, url, 2*second, reader)...)
					}
					if told.Swap(0) == 0 {
						b.Fatal("the receiver that fails was told nothing")
					}
				}
			}
			at := func(list []time.Duration, part float64) float64 {
				slices.Sort(list)
				return float64(list[int(part*float64(len(list)-1))].Microseconds()) / 1000
			}
			b.ReportMetric(at(good, 0.5), "p50-ms-good")
			b.ReportMetric(at(bad, 0.5), "p50-ms-bad")
			b.ReportMetric(at(good, 0.99), "p99-ms-good")
			b.ReportMetric(at(bad, 0.99), "p99-ms-bad")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// beside publishes to a reader every 5 ms beside what hooks tell, and returns how long each
// event took.
func beside(b *testing.B, url string, d time.Duration, reader *caddyStream) (took []time.Duration) {
	b.Helper()
	ctx, stop := context.WithTimeout(b.Context(), d)
	var over sync.WaitGroup
	defer func() { stop(); over.Wait() }()
	for i := range 4 {
		over.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				happen(ctx, fmt.Sprintf("%sother.%d.%d", url, i, n%100), n)
				time.Sleep(5 * time.Millisecond)
			}
		})
	}
	pace := time.NewTicker(5 * time.Millisecond)
	defer pace.Stop()
	for ctx.Err() == nil {
		<-pace.C
		began := time.Now()
		mustPublish(b, url+"measured", began.String())
		reader.expect(began.String())
		took = append(took, time.Since(began))
	}
	return took
}

// happen sets a value, and begins and ends a stream.
func happen(ctx context.Context, url string, n int) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for _, method := range []string{http.MethodPut, http.MethodGet} {
		r, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(fmt.Sprint(n)))
		if err != nil {
			return
		}
		if method == http.MethodGet {
			r.Body = http.NoBody
			r.Header.Set("Accept", "text/event-stream")
		}
		resp, err := client.Do(r)
		if err != nil {
			return
		}
		defer resp.Body.Close()
	}
}
