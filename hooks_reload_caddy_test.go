package evstream

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

const (
	hookSecret      = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	otherHookSecret = "whsec_C2FtcGxlIHNlY3JldCBvZiAyNCBieXRlcy4="
)

// heldReceiver is an application that answers the events of a channel only when it is let.
type heldReceiver struct {
	*httptest.Server
	held string        // the channel
	let  chan struct{} // each time it may answer once
	over chan struct{} // closed when it may answer always

	always func() // closes over

	mu       sync.Mutex
	got, ids []string
}

// newHeldReceiver notes path, channel, value and which secrets have signed.
func newHeldReceiver(t *testing.T, held string) *heldReceiver {
	r := &heldReceiver{held: held, let: make(chan struct{}), over: make(chan struct{})}
	r.Server = httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, q *http.Request) {
		body, err := io.ReadAll(q.Body)
		if err != nil {
			t.Error(err)
		}
		var e struct {
			Data struct {
				Channel string
				Value   json.RawMessage
			}
		}
		if err := json.Unmarshal(body, &e); err != nil {
			t.Error(err)
		}
		line := q.URL.Path + " " + e.Data.Channel + "=" + string(e.Data.Value)
		for _, by := range []struct{ name, secret string }{{" first", hookSecret}, {" second", otherHookSecret}} {
			key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(by.secret, "whsec_"))
			if err != nil {
				t.Error(err)
			}
			mac := hmac.New(sha256.New, key)
			mac.Write([]byte(q.Header.Get("webhook-id") + "." + q.Header.Get("webhook-timestamp") + "." + string(body)))
			if slices.Contains(strings.Fields(q.Header.Get("webhook-signature")), "v1,"+base64.StdEncoding.EncodeToString(mac.Sum(nil))) {
				line += by.name
			}
		}
		r.mu.Lock()
		r.got, r.ids = append(r.got, line), append(r.ids, q.Header.Get("webhook-id"))
		r.mu.Unlock()
		if e.Data.Channel == r.held {
			select {
			case <-r.let:
			case <-r.over:
			}
		}
	}))
	t.Cleanup(r.Close)
	r.always = sync.OnceFunc(func() { close(r.over) })
	t.Cleanup(r.always)
	return r
}

// answer lets it answer one event.
func (r *heldReceiver) answer(t *testing.T) {
	t.Helper()
	select {
	case r.let <- struct{}{}:
	case <-time.After(patience):
		t.Fatal("no event of the channel is there to be answered")
	}
}

// of are the events of a channel, in order.
func (r *heldReceiver) of(channel string) (list []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, line := range r.got {
		if strings.Contains(line, " "+channel+"=") {
			list = append(list, line)
		}
	}
	return list
}

func (r *heldReceiver) gets(t *testing.T, channel string, want ...string) {
	t.Helper()
	eventually(t, strings.Join(want, ", "), func() bool { return slices.Equal(r.of(channel), want) })
}

// What waits for a URL outlives reloads that change the hook's channels and its secrets: it
// comes in order and once, signed with what is configured then. With another URL it goes,
// and that is counted; what is on its way arrives once.
func TestReloadsChangeAHookThatHasEventsWaiting(t *testing.T) {
	app := newHeldReceiver(t, "a")
	address, admin := freeAddress(t), freeAddress(t)
	config := func(path, block string) string {
		return withAdmin(admin, address, "\tevstream {\n\t\ton state_changed "+app.URL+path+" {\n"+block+"\t\t}\n\t}\n", allowAnything)
	}
	change := func(path, block string) {
		t.Helper()
		if err := reload(t, config(path, block)); err != nil {
			t.Fatal(err)
		}
	}
	put := func(channel, value string) {
		t.Helper()
		if status, body := send(t, http.MethodPut, "http://"+address+"/live/"+channel, value); status/100 != 2 {
			t.Fatalf("%d %s", status, body)
		}
	}
	queued := func(want string) {
		t.Helper()
		eventually(t, want+" to wait", func() bool { return metric(t, admin, `evstream_hooks_queued{broker="default"}`) == want })
	}
	load(t, config("/old", "\t\t\tsecret "+hookSecret+"\n\t\t\tchannels a\n"))
	put("a", "1")
	app.gets(t, "a", "/old a=1 first")
	put("a", "2") // waits for the answer to the first
	put("b", "1") // is of no channel of the hook
	queued("2")

	change("/old", "\t\t\tsecret "+hookSecret+"\n\t\t\tchannels b c\n")
	put("a", "3") // is of none now
	put("b", "2") // does not wait for a
	app.gets(t, "b", "/old b=2 first")
	queued("2")

	change("/old", "\t\t\tsecret "+otherHookSecret+" "+hookSecret+"\n\t\t\tchannels a b\n")
	put("a", "4")
	put("b", "3")
	app.gets(t, "b", "/old b=2 first", "/old b=3 first second")
	queued("3")
	change("/old", "\t\t\tsecret "+otherHookSecret+"\n\t\t\tchannels a b\n")
	app.answer(t)
	app.gets(t, "a", "/old a=1 first", "/old a=2 second")
	app.answer(t)
	app.gets(t, "a", "/old a=1 first", "/old a=2 second", "/old a=4 second")

	// Another URL: 4 is on its way, 5 goes.
	put("a", "5")
	queued("2")
	change("/new", "\t\t\tsecret "+otherHookSecret+"\n")
	queued("0")
	if got := metric(t, admin, `evstream_hooks_dropped_total{broker="default",reason="removed"}`); got != "2" {
		t.Errorf("%s events are counted as dropped, want 2", got)
	}
	put("c", "1")
	put("a", "6")
	app.gets(t, "c", "/new c=1 second")
	app.gets(t, "a", "/old a=1 first", "/old a=2 second", "/old a=4 second", "/new a=6 second")
	app.always()
	put("a", "7")
	app.gets(t, "a", "/old a=1 first", "/old a=2 second", "/old a=4 second", "/new a=6 second", "/new a=7 second")
	queued("0")
	app.mu.Lock()
	defer app.mu.Unlock()
	slices.Sort(app.ids)
	if n := len(slices.Compact(app.ids)); n != 8 || len(app.got) != 8 {
		t.Errorf("8 events have come in %d requests, with %d ids: %q", len(app.got), n, app.got)
	}
}
