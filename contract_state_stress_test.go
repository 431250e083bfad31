package evstream

import (
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/evstream/caddy-evstream/sse"
)

// Many writers at once, over real connections: nothing is lost, and everybody
// who looks sees an order that explains it.

// stateClient talks to one server.
type stateClient struct {
	t      *testing.T
	client *http.Client
	base   string
}

// do answers with the status, the ETag and the body. Header lines are "Name: value".
func (c *stateClient) do(method, path, body string, header ...string) (status int, tag, text string) {
	r, err := http.NewRequestWithContext(c.t.Context(), method, c.base+path, strings.NewReader(body))
	if err != nil {
		c.t.Error(err)
		return 0, "", ""
	}
	r.Header.Set("Authorization", "Bearer "+backendSecret)
	for _, line := range header {
		name, value, _ := strings.Cut(line, ": ")
		r.Header.Set(name, value)
	}
	resp, err := c.client.Do(r)
	if err != nil {
		c.t.Error(err)
		return 0, "", ""
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		c.t.Error(err)
	}
	return resp.StatusCode, resp.Header.Get("ETag"), strings.TrimSuffix(string(b), "\n")
}

func newStateClient(t *testing.T, e *testSite) *stateClient {
	t.Helper()
	client := over(t, "HTTP/1.1")
	client.Transport.(*http.Transport).MaxIdleConnsPerHost = 64
	return &stateClient{t, client, e.url + "/live/"}
}

func TestConcurrentIncrementsAreAllCounted(t *testing.T) {
	eachServer(t, func(t *testing.T, on server) {
		const writers = 32
		for name, increment := range map[string]func(c *stateClient, path string) bool{
			"incr": func(c *stateClient, path string) bool {
				status, _, _ := c.do("PATCH", path+"?incr=1", "")
				return status == 200
			},
			"If-Match": func(c *stateClient, path string) bool {
				_, tag, text := c.do("GET", path, "", asJSON)
				n, err := strconv.Atoi(text)
				if err != nil {
					c.t.Error(err)
				}
				status, _, _ := c.do("PUT", path, strconv.Itoa(n+1), "If-Match: "+tag)
				return status == 200
			},
			"JSON patch": func(c *stateClient, path string) bool {
				_, _, text := c.do("GET", path, "", asJSON)
				n, err := strconv.Atoi(text)
				if err != nil {
					c.t.Error(err)
				}
				patch := fmt.Sprintf(`[{"op":"test","path":"","value":%d},{"op":"replace","path":"","value":%d}]`, n, n+1)
				status, _, _ := c.do("PATCH", path, patch, "Content-Type: application/json-patch+json")
				return status == 200
			},
		} {
			t.Run(name, func(t *testing.T) {
				e := on.start(t, withState)
				c := newStateClient(t, e)
				put(t, e, "/live/count", "0")
				each := 300
				if name != "incr" {
					each = 125 // it takes two requests, or more
				}
				if on.name == "caddy" {
					each /= 5 // behind the server the code is the same
				}

				// Readers that come at any point of it, of the channel or of a pattern.
				var readers, wg sync.WaitGroup
				total := writers * each
				var counted atomic.Int64
				joins := map[int64]chan struct{}{}
				for r := range 8 {
					at, now := 1+rand.Int64N(int64(total)), make(chan struct{})
					if joins[at] != nil {
						continue
					}
					joins[at] = now
					readers.Go(func() {
						select {
						case <-now:
							c.watchCount([]string{"count", "c*"}[r%2], total)
						case <-t.Context().Done():
						}
					})
				}
				// Who compares has to try again, and 32 at a time that would all be
				// refused but one: they take turns by themselves, a few at a time.
				slots := make(chan struct{}, writers)
				if name != "incr" {
					slots = make(chan struct{}, 3)
				}
				for range writers {
					wg.Go(func() {
						for done := 0; done < each && !t.Failed(); {
							slots <- struct{}{}
							if increment(c, "count") {
								done++
								if now := joins[counted.Add(1)]; now != nil {
									close(now)
								}
							}
							<-slots
						}
					})
				}
				wg.Wait()
				if _, _, text := c.do("GET", "count", "", asJSON); text != strconv.Itoa(total) {
					t.Errorf("the count is %s, want %d", text, total)
				}
				readers.Wait()
			})
		}
	})
}

// watchCount reads a count until it is total: it only ever rises.
func (c *stateClient) watchCount(channel string, total int) {
	t := c.t
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, c.base+channel, nil)
	if err != nil {
		t.Error(err)
		return
	}
	r.Header.Set("Authorization", "Bearer "+backendSecret)
	resp, err := c.client.Do(r)
	if err != nil {
		t.Error(err)
		return
	}
	defer resp.Body.Close()
	d := sse.NewDecoder(resp.Body, 1<<20)
	for at, first := -1, true; at < total; {
		event, err := d.Next()
		if err != nil {
			t.Errorf("after %d: %v", at, err)
			return
		}
		if strings.HasPrefix(event.Type, "evstream.") {
			continue
		}
		var frame struct{ Value *int }
		if json.Unmarshal(event.Data, &frame) != nil || frame.Value == nil || *frame.Value <= at || !first && event.ID == "" {
			t.Errorf("after %d came %+v", at, event)
			return
		}
		at, first = *frame.Value, false
	}
}

// stateInput is what a client asks of one channel.
type stateInput struct {
	op    string // get, set, cas, delete
	value string
	tag   string // cas
}

// stateOutput is what it is answered.
type stateOutput struct {
	status int
	value  string
	tag    string
}

// register is a value and its version, "" for none.
type register struct{ value, tag string }

// stateModel is one channel by the promises that are made of it.
var stateModel = porcupine.Model{
	Init: func() any { return register{} },
	Step: func(state, input, output any) (bool, any) {
		now, in, out := state.(register), input.(stateInput), output.(stateOutput)
		switch in.op {
		case "get":
			if now.value == "" {
				return out.status == 404, now
			}
			return out.status == 200 && out.value == now.value && out.tag == now.tag, now
		case "delete":
			if now.value == "" {
				return out.status == 404, now
			}
			return out.status == 200, register{}
		case "cas":
			if now.tag != in.tag || now.value == "" {
				return out.status == 412 && out.tag == now.tag, now
			}
		}
		if now.value == in.value {
			return out.status == 200 && out.tag == now.tag, now
		}
		want := 200
		if now.value == "" {
			want = 201
		}
		return out.status == want && out.tag != now.tag, register{in.value, out.tag}
	},
}

func TestHistoriesOfAValueAreLinearizable(t *testing.T) {
	eachServer(t, func(t *testing.T, on server) {
		const runs, clients, each = 20, 8, 40
		e := on.start(t, withState)
		c := newStateClient(t, e)
		begun := time.Now()
		for run := range runs {
			path := "run" + strconv.Itoa(run)
			var mu sync.Mutex
			var history []porcupine.Operation
			var wg sync.WaitGroup
			for id := range clients {
				wg.Go(func() {
					rng := rand.New(rand.NewPCG(uint64(run), uint64(id)))
					tag := `"1-1"`
					for range each {
						in := stateInput{value: strconv.Itoa(rng.IntN(4))}
						var out stateOutput
						call := time.Since(begun).Nanoseconds()
						switch rng.IntN(8) {
						case 0, 1, 2:
							in.op = "get"
							out.status, out.tag, out.value = c.do("GET", path, "", asJSON)
						case 3:
							in.op = "delete"
							out.status, _, _ = c.do("DELETE", path, "")
						case 4, 5:
							in.op = "set"
							out.status, out.tag, _ = c.do("PUT", path, in.value)
						default:
							in.op, in.tag = "cas", tag
							out.status, out.tag, _ = c.do("PUT", path, in.value, "If-Match: "+tag)
						}
						back := time.Since(begun).Nanoseconds()
						if out.tag != "" {
							tag = out.tag
						}
						mu.Lock()
						history = append(history, porcupine.Operation{ClientId: id, Input: in, Call: call, Output: out, Return: back})
						mu.Unlock()
					}
				})
			}
			wg.Wait()
			if result := porcupine.CheckOperationsTimeout(stateModel, history, 20*time.Second); result != porcupine.Ok {
				t.Fatalf("run %d: %v: %+v", run, result, history)
			}
		}
	})
}

// The check would find a write that is lost, and a read that is stale.
func TestHistoriesThatAreNotLinearizableAreFound(t *testing.T) {
	at := func(client int, call, back int64, in stateInput, out stateOutput) porcupine.Operation {
		return porcupine.Operation{ClientId: client, Input: in, Call: call, Output: out, Return: back}
	}
	set := at(0, 0, 1, stateInput{op: "set", value: "1"}, stateOutput{status: 201, tag: "a"})
	for name, history := range map[string][]porcupine.Operation{
		"stale": {set, at(1, 2, 3, stateInput{op: "get"}, stateOutput{status: 404})},
		"lost": {
			set,
			at(1, 2, 5, stateInput{op: "cas", value: "2", tag: "a"}, stateOutput{status: 200, tag: "b"}),
			at(2, 2, 5, stateInput{op: "cas", value: "3", tag: "a"}, stateOutput{status: 200, tag: "c"}),
		},
		"changed for nothing": {set, at(1, 2, 3, stateInput{op: "set", value: "1"}, stateOutput{status: 200, tag: "b"})},
	} {
		if porcupine.CheckOperations(stateModel, history) {
			t.Errorf("%s: taken for linearizable", name)
		}
	}
}
