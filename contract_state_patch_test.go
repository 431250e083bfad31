package evstream

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"testing"

	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/internal/jsonvalue"
)

// Patches at random, against a plain Go value.
func TestPatchesDoWhatTheyDoToAPlainValue(t *testing.T) {
	eachServer(t, func(t *testing.T, on server) {
		e := on.start(t, withState)
		rng := rand.New(rand.NewPCG(4, 2))
		var plain any = map[string]any{}
		put(t, e, "/live/a", "{}")
		reader, err := e.hub.Broker().Subscribe(broker.SubscribeOptions{Channels: []string{"a"}})
		if err != nil {
			t.Fatal(err)
		}
		defer reader.Close()
		refused := 0
		for step := range 4000 {
			name := string(rune('a' + rng.IntN(4)))
			value := randomPlain(rng, 2)
			text, _ := json.Marshal(value)
			before := clonePlain(plain)
			object, isObject := plain.(map[string]any)
			var resp *http.Response
			ok := true
			switch rng.IntN(6) {
			case 0: // set
				resp = ask(t, e, asBackend("PUT", "/live/a", string(text)))
				plain = value
			case 1: // merge
				patch := fmt.Sprintf(`{%q:%s}`, name, text)
				resp = ask(t, e, asBackend("PATCH", "/live/a", patch, "Content-Type: application/merge-patch+json"))
				plain = mergePlain(plain, map[string]any{name: value})
			case 2: // add, in an object or at the end of an array
				path := "/" + name
				if array, isArray := plain.([]any); isArray {
					path, plain = "/-", append(array, value)
				} else if isObject {
					object[name] = value
				} else {
					ok = false
				}
				resp = ask(t, e, asBackend("PATCH", "/live/a", fmt.Sprintf(`[{"op":"add","path":%q,"value":%s}]`, path, text), "Content-Type: application/json-patch+json"))
			case 3: // move, and then test what was moved
				to := string(rune('a' + rng.IntN(4)))
				moved, has := object[name]
				if ok = isObject && has; ok {
					delete(object, name)
					object[to] = moved
				}
				expected, _ := json.Marshal(moved)
				resp = ask(t, e, asBackend("PATCH", "/live/a", fmt.Sprintf(`[{"op":"move","from":"/%s","path":"/%s"},{"op":"test","path":"/%s","value":%s}]`, name, to, to, expected), "Content-Type: application/json-patch+json"))
			case 4: // remove, and then a test that fails now and then
				_, has := object[name]
				fails := rng.IntN(3) == 0
				if ok = isObject && has && !fails; ok {
					delete(object, name)
				}
				test := `{"op":"test","path":"","value":"never"}`
				if !fails {
					test = `{"op":"add","path":"/zz","value":1},{"op":"remove","path":"/zz"}`
				}
				resp = ask(t, e, asBackend("PATCH", "/live/a", fmt.Sprintf(`[{"op":"remove","path":"/%s"},%s]`, name, test), "Content-Type: application/json-patch+json"))
			case 5: // count
				n, isNumber := plain.(float64)
				if ok = isNumber; ok {
					plain = n + 3
				}
				resp = ask(t, e, asBackend("PATCH", "/live/a?incr=3", ""))
			}
			if !ok {
				refused++
				plain = before
			}
			if (resp.StatusCode == 200) != ok || !ok && resp.StatusCode != 409 {
				t.Fatalf("step %d: %d %s, want it to be taken: %v", step, resp.StatusCode, bodyOf(t, resp), ok)
			}
			want, _ := json.Marshal(plain)
			got := e.hub.Broker().State("a").Value
			samePlain(t, step, got, want)
			if step%3 == 0 { // the reader lags a little
				var batch broker.Batch
				batch.Decode = true
				for batch.More = true; batch.More; {
					if err := reader.Read(&batch); err != nil {
						t.Fatal(err)
					}
					for _, d := range batch.Deliveries {
						got = d.State.Value
					}
				}
				samePlain(t, step, got, want)
			}
		}
		if refused < 400 {
			t.Errorf("only %d patches were refused", refused)
		}
	})
}

func samePlain(t *testing.T, step int, got, want []byte) {
	t.Helper()
	a, err := jsonvalue.Parse(got)
	if err != nil {
		t.Fatal(err)
	}
	b, err := jsonvalue.Parse(want)
	if err != nil {
		t.Fatal(err)
	}
	if !jsonvalue.Equal(a, b) {
		t.Fatalf("step %d: the value is %s, want %s", step, got, want)
	}
}

func randomPlain(rng *rand.Rand, depth int) any {
	switch n := rng.IntN(9); {
	case n < 2:
		return float64(rng.IntN(5))
	case n == 2:
		return nil
	case n == 3:
		return "x"
	case n < 6 && depth > 0:
		list := []any{}
		for range rng.IntN(3) {
			list = append(list, randomPlain(rng, depth-1))
		}
		return list
	case depth > 0:
		object := map[string]any{}
		for range rng.IntN(4) {
			object[string(rune('a'+rng.IntN(4)))] = randomPlain(rng, depth-1)
		}
		return object
	}
	return true
}

func clonePlain(v any) any {
	text, _ := json.Marshal(v)
	var c any
	_ = json.Unmarshal(text, &c)
	return c
}

func mergePlain(target, patch any) any {
	changes, ok := patch.(map[string]any)
	if !ok {
		return patch
	}
	object, ok := target.(map[string]any)
	if !ok {
		object = map[string]any{}
	}
	for name, value := range changes {
		if value == nil {
			delete(object, name)
		} else {
			object[name] = mergePlain(object[name], value)
		}
	}
	return object
}
