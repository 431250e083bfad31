package evstream

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"testing"
)

func TestBatchForms(t *testing.T) {
	eachServer(t, func(t *testing.T, on server) {
		for _, tt := range []struct {
			name, body, contentType string
			answer                  string // ids are "ID"
			a, b                    []string
		}{
			{"an object", `{"channel":"a","event":"score","data":"x"}`, "application/json", `{"id":"ID"}`, []string{"score:x"}, nil},
			{"an object for many", `{"channels":["a","b","a"],"data":"x"}`, "", `{"published":2,"id":"ID","ids":["ID","ID"]}`, []string{":x"}, []string{":x"}},
			{
				"an array", ` [{"channel":"a","data":"1"},{"channel":"b","data":"2"},{"channel":"a","data":"3"}]`, "application/x-www-form-urlencoded",
				`{"published":3,"id":"ID","ids":["ID","ID","ID"]}`,
				[]string{":1", ":3"},
				[]string{":2"},
			},
			{"an empty array", `[]`, "", `{"published":0}`, nil, nil},
			{
				"lines", "{\"channel\":\"a\",\"data\":\"1\"}\r\n\n{\"channels\":[\"a\",\"b\"],\"data\":\"2\"}", "application/x-ndjson",
				`{"published":3,"id":"ID"}`,
				[]string{":1", ":2"},
				[]string{":2"},
			},
		} {
			t.Run(tt.name, func(t *testing.T) {
				e := on.start(t)
				resp := ask(t, e, asBackend("POST", "/live/_publish", tt.body, "Content-Type: "+tt.contentType))
				if got := anyID.ReplaceAllString(bodyOf(t, resp), `"ID"`); resp.StatusCode != 200 || got != tt.answer {
					t.Errorf("got %d %s, want %s", resp.StatusCode, got, tt.answer)
				}
				if got := kept(t, e, "a"); !slices.Equal(got, tt.a) {
					t.Errorf("a kept %q, want %q", got, tt.a)
				}
				if got := kept(t, e, "b"); !slices.Equal(got, tt.b) {
					t.Errorf("b kept %q, want %q", got, tt.b)
				}
			})
		}
	})
}

func TestBatchData(t *testing.T) {
	eachServer(t, func(t *testing.T, on server) {
		for _, tt := range []struct{ name, data, want string }{
			{"a string is its text", `"a\nb\u0041\\"`, "a\nbA\\"},
			{"a pair of surrogates", `"\ud83d\ude00"`, "😀"},
			{"an empty string", `""`, ""},
			{"a number keeps its digits", `12345678901234567890.10e+2`, "12345678901234567890.10e+2"},
			{"an object is compacted", "{ \"b\" : [ 1.0, \"x \\u00e9\" ],\n \"a\": {} }", `{"b":[1.0,"x \u00e9"],"a":{}}`},
			{"a boolean", `true`, "true"},
			{"null", `null`, "null"},
		} {
			t.Run(tt.name, func(t *testing.T) {
				e := on.start(t)
				mustPost(t, e, "/live/_publish", `{"channel":"a","data":`+tt.data+`,"event":null}`)
				if got := kept(t, e, "a"); !slices.Equal(got, []string{":" + tt.want}) {
					t.Errorf("kept %q, want %q", got, tt.want)
				}
			})
		}
		e := on.start(t)
		mustPost(t, e, "/live/_publish", `{"channel":"a"}`)
		if got := kept(t, e, "a"); !slices.Equal(got, []string{":"}) {
			t.Errorf("without data, kept %q", got)
		}
	})
}

func TestABadBatchIsToldAndStoresNothing(t *testing.T) {
	eachServer(t, func(t *testing.T, on server) {
		e := on.start(t)
		many := func(n int) string {
			return "[" + strings.Repeat(`{"channel":"a"},`, n-1) + `{"channel":"a"}]`
		}
		for _, tt := range []struct {
			name, body string
			status     int
			kind       string
			event      int
			detail     string
		}{
			{"nothing", "", 400, "bad-body", 0, "the body is empty"},
			{"no JSON", "hello", 400, "bad-body", 0, "malformed at byte 1"},
			{"a string", `"a"`, 400, "bad-body", 0, "an event is an object, not string"},
			{"null", `null`, 400, "bad-body", 0, "an event is an object, not null"},
			{"two values", `{"channel":"a"} {"channel":"a"}`, 400, "bad-body", 0, "malformed at byte"},
			{"an array that is cut", `[{"channel":"a"}`, 400, "bad-body", 0, "malformed"},
			{"an array that ends in a comma", `[{"channel":"a"},]`, 400, "bad-body", 0, "malformed at byte 18: invalid character ']' looking for beginning of value"},
			{"an array that is cut at a comma", `[{"channel":"a"},`, 400, "bad-body", 0, "malformed at byte 17: unexpected end of JSON input"},
			{"an array that is cut in an item", ` [{"channel":"a"},{"cha`, 400, "bad-body", 0, "malformed at byte 22: unexpected end of JSON input"},
			{"an array that only begins", `[`, 400, "bad-body", 0, "malformed at byte 1: unexpected end of JSON input"},
			{"an array without a comma", `[{"channel":"a"} {"channel":"b"}]`, 400, "bad-body", 0, "malformed at byte 18: invalid character '{' after array element"},
			{"an array, and a bracket", `[{"channel":"a"}]]`, 400, "bad-body", 0, "malformed at byte 18: invalid character ']' after top-level value"},
			{"two arrays", "[{\"channel\":\"a\"}]\n[]", 400, "bad-body", 0, "malformed at byte 19: invalid character '[' after top-level value"},
			{"what is malformed after what is no event", `[7,{"channel":"a"},x]`, 400, "bad-body", 0, "malformed at byte 20: invalid character 'x' looking for beginning of value"},
			{"what is malformed after too many", strings.TrimSuffix(many(1001), "]"), 400, "bad-body", 0, "unexpected end of JSON input"},
			{"too deep an array", strings.Repeat("[", 20000) + strings.Repeat("]", 20000), 400, "bad-body", 0, "exceeded max depth"},
			{"an array of arrays", `[[{"channel":"a"}]]`, 400, "bad-body", 1, "an event is an object, not array"},
			{"an array with invalid UTF-8 at its end", "[7,\"\xff\"]", 400, "bad-body", 0, "not UTF-8"},
			{"invalid UTF-8", "{\"channel\":\"a\",\"data\":\"\xff\"}", 400, "bad-body", 0, "not UTF-8"},
			{"half a character", `{"channel":"a","data":"x\ud83dy"}`, 400, "bad-body", 0, "half of a surrogate pair"},
			{"the other half", `{"channel":"a","data":"\ude00"}`, 400, "bad-body", 0, "half of a surrogate pair"},
			{"half at the end", `{"channel":"a","data":"\ud83d"}`, 400, "bad-body", 0, "half of a surrogate pair"},
			{"two first halves", `{"channel":"a","data":"\ud83d\ud83d\ude00"}`, 400, "bad-body", 0, "half of a surrogate pair"},
			{"too deep", `{"channel":"a","data":` + strings.Repeat("[", 20000) + strings.Repeat("]", 20000) + `}`, 400, "bad-body", 0, "exceeded max depth"},
			{"no channel", `{"data":"x"}`, 400, "bad-body", 0, "either channel or channels"},
			{"a channel that is null", `{"channel":null}`, 400, "bad-body", 0, "either channel or channels"},
			{"both", `{"channel":"a","channels":["a"]}`, 400, "bad-body", 0, "either channel or channels"},
			{"a channel that is a number", `{"channel":7}`, 400, "bad-body", 0, "channel is a string, not 7"},
			{"channels that are none", `{"channels":"a"}`, 400, "bad-body", 0, "channels is an array of names"},
			{"no channels", `{"channels":[]}`, 400, "bad-body", 0, "and not empty"},
			{"channels of numbers", `{"channels":["a",1]}`, 400, "bad-body", 0, "channels is a string, not 1"},
			{"unknown members", `{"channel":"a","topic":"b","Data":"x"}`, 400, "bad-body", 0, `no member "Data", "topic", only channel, channels, event, data, id, retry, except`},
			{"a type that is a number", `{"channel":"a","event":1}`, 400, "bad-body", 0, "event is a string, not 1"},
			{"half a retry", `{"channel":"a","retry":1.5}`, 400, "bad-event", 0, `not "1.5"`},
			{"retry 0", `{"channel":"a","retry":0}`, 400, "bad-event", 0, `not "0"`},
			{"a member twice", `{"channel":"a","data":"x","data":"y"}`, 400, "bad-body", 0, `the member "data" is there twice`},
			{"a member twice, spelt in two ways", `{"channel":"a","ch\u0061nnel":"b"}`, 400, "bad-body", 0, `the member "channel" is there twice`},
			{"a member twice, of an item", `[{"channel":"a","id":"x"},{"channel":"a","id":null,"id":"y"}]`, 400, "bad-body", 2, `the member "id" is there twice`},
			{"a retry in words", `{"channel":"a","retry":"2s"}`, 400, "bad-event", 0, "at least 1, not"},
			{"a newline in the type", `{"channel":"a","event":"x\ny"}`, 400, "bad-event", 0, "without control characters"},
			{"a CR in the id", `{"channel":"a","id":"x\ry"}`, 400, "bad-event", 0, "without control characters"},
			{"a NUL in the id", `{"channel":"a","id":"\u0000"}`, 400, "bad-event", 0, "without control characters"},
			{"a name that is none", `{"channel":"a b"}`, 400, "bad-channel", 0, "is not allowed"},
			{"dots", `{"channel":"b/../a"}`, 400, "bad-channel", 0, `a segment is ".."`},
			{"a name of the hub's", `{"channel":"_publish"}`, 400, "bad-channel", 0, "belong to the hub"},
			{"too much data", `{"channel":"a","data":"` + strings.Repeat("x", 300<<10) + `"}`, 413, "too-large", 0, "at most 262144"},
			{"the second of two", `[{"channel":"a"},{"channel":"a","id":"1-1"}]`, 400, "bad-event", 2, "look like a position"},
			{"an unreadable second", `[{"channel":"a"},7]`, 400, "bad-body", 2, "an event is an object, not number"},
			{"a null second", `[{"channel":"a"},null]`, 400, "bad-body", 2, "an event is an object, not null"},
			{"a second by nobody's leave", `[{"channel":"a"},{"channels":["a","a/*"]}]`, 400, "bad-channel", 2, "is not allowed"},
			{"too many", many(1001), 413, "too-large", 1001, "more than 1000 events"},
			{"too much in all", `{"channels":["a` + joinNumbers(100, `","a`) + `"],"data":"` + strings.Repeat("x", 100_000) + `"}`, 413, "too-large", 0, "more than 8388608 bytes in all"},
			{"too many channels", `[{"channels":["a"` + strings.Repeat(`,"a"`, 1000) + `]}]`, 413, "too-large", 1, "more than 1000 channels"},
		} {
			t.Run(tt.name, func(t *testing.T) {
				doc := wantProblem(t, ask(t, e, asBackend("POST", "/live/_publish", tt.body)), tt.status, tt.kind)
				if !strings.Contains(doc.Detail, tt.detail) || doc.Event != tt.event {
					t.Errorf("got event %d, %s; want %d, %s", doc.Event, doc.Detail, tt.event, tt.detail)
				}
				if got := kept(t, e, "a"); len(got) > 0 {
					t.Errorf("kept %q", got)
				}
			})
		}
		if resp := ask(t, e, asBackend("POST", "/live/_publish", many(1000))); resp.StatusCode != 200 {
			t.Errorf("1000 events: %s", bodyOf(t, resp))
		}
	})
}

// joinNumbers is the numbers from 0 to n, joined.
func joinNumbers(n int, by string) string {
	list := make([]string, n+1)
	for i := range list {
		list[i] = strconv.Itoa(i)
	}
	return strings.Join(list, by)
}

func TestABatchIsAllowedWhollyOrNotAtAll(t *testing.T) {
	eachServer(t, func(t *testing.T, on server) {
		e := on.start(t, withRules("guest publish room/**", "anyone subscribe **"), withBearers(map[string]string{"guest": guestSecret}))
		guest := "Authorization: Bearer " + guestSecret
		doc := wantProblem(t, ask(t, e, request{"POST", "/live/_publish", []string{guest}, `[{"channel":"room/1"},{"channel":"other"}]`}), 403, "forbidden")
		if doc.Event != 2 || *doc.Published != 0 {
			t.Errorf("got %+v", doc)
		}
		wantProblem(t, ask(t, e, request{"POST", "/live/_publish", []string{guest}, `{"channel":"/"}`}), 400, "bad-channel")
		wantProblem(t, ask(t, e, request{"POST", "/live/_publish", []string{guest}, `{"channel":"other/"}`}), 403, "forbidden")
		wantProblem(t, ask(t, e, request{"POST", "/live/_publish", nil, `not even JSON`}), 401, "unauthorized")
		wantProblem(t, ask(t, e, asBackend("POST", "/live/_publish", `x`)), 401, "unauthorized") // a secret of elsewhere
		if got := kept(t, e, "room/1"); len(got) > 0 {
			t.Errorf("kept %q", got)
		}
		// Lines go one by one: what comes before the refused one is published.
		doc = wantProblem(t, ask(t, e, request{
			"POST", "/live/_publish",
			[]string{guest, "Content-Type: application/x-ndjson"},
			"{\"channel\":\"room/1\",\"data\":\"1\"}\n\n{\"channel\":\"other\"}\n{\"channel\":\"room/1\"}\n",
		}), 403, "forbidden")
		if doc.Line != 3 || *doc.Published != 1 || doc.ID != e.hub.Broker().Head().String() {
			t.Errorf("got %+v", doc)
		}
		if got := kept(t, e, "room/1"); !slices.Equal(got, []string{":1"}) {
			t.Errorf("kept %q", got)
		}
		if resp := ask(t, e, request{"POST", "/live/_publish", []string{guest, "Content-Type: text/event-stream"}, "data: x\n\n"}); resp.StatusCode != 415 {
			t.Errorf("text/event-stream: %d", resp.StatusCode)
		}
	})
}

func TestEventsOfABatchHaveKeysOfTheirOwn(t *testing.T) {
	eachServer(t, func(t *testing.T, on server) {
		e := on.start(t)
		post := func(body string) (string, string) {
			resp := ask(t, e, asBackend("POST", "/live/_publish", body, "Idempotency-Key: k"))
			return bodyOf(t, resp), resp.Header.Get("Idempotency-Replayed")
		}
		first, replayed := post(`[{"channel":"a","data":"1"},{"channel":"a","data":"2"}]`)
		if replayed != "" {
			t.Error("the first is marked as replayed")
		}
		if again, replayed := post(`[{"channel":"a","data":"1"},{"channel":"a","data":"2"}]`); again != first || replayed != "true" {
			t.Errorf("got %s, %q, want %s", again, replayed, first)
		}
		if _, replayed := post(`[{"channel":"a","data":"1"},{"channel":"a","data":"2"},{"channel":"a","data":"3"}]`); replayed != "" {
			t.Error("one of them was new")
		}
		body, _ := post(`[{"channel":"a","data":"1"},{"channel":"a","data":"other"},{"channel":"a","data":"3"}]`)
		var doc problemDoc
		if err := json.Unmarshal([]byte(body), &doc); err != nil || doc.Status != 422 || doc.Event != 2 || *doc.Published != 2 {
			t.Errorf("got %s", body)
		}
		if got := kept(t, e, "a"); !slices.Equal(got, []string{":1", ":2", ":3"}) {
			t.Errorf("kept %q", got)
		}
		// No key that a client can send is that of an event of a batch, and the other way.
		for _, key := range []string{"k/0", "k-0", "k0", "k%200", "k"} {
			resp := ask(t, e, asBackend("POST", "/live/a", "1", "Idempotency-Key: "+key))
			if got := resp.Header.Get("Idempotency-Replayed"); resp.StatusCode != 200 || got != "" {
				t.Errorf("%s: %d, replayed %q: %s", key, resp.StatusCode, got, bodyOf(t, resp))
			}
		}
	})
}
