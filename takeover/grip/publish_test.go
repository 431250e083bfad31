package grip

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/hub"
)

const testKey = "a-key-of-the-test"

// newPublisher returns a Publisher with its hub, and what reads a channel of it.
func newPublisher(t testing.TB) *Publisher {
	t.Helper()
	h, err := hub.Open(broker.NewMemory(), hub.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.Close() })
	keys, err := NewKeys(testKey, "", "")
	if err != nil {
		t.Fatal(err)
	}
	return &Publisher{Hub: h, IDs: NewIDs(), Keys: []*Keys{keys}, Logger: slog.New(slog.DiscardHandler)}
}

// send sends a request to publish.
func send(p http.Handler, method, body string, headers ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, "/publish/", strings.NewReader(body))
	r.Header.Set("Authorization", "Bearer "+testKey)
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	p.ServeHTTP(w, r)
	return w
}

func TestPublishingAnswersAsTheProtocolSays(t *testing.T) {
	p := newPublisher(t)
	const good = `{"items":[{"channel":"a","formats":{"http-stream":{"content":"data: x\n\n"}}}]}`
	stream := func(s string) string { return `{"items":[{"channel":"a","http-stream":{` + s + `}}]}` }
	for _, tt := range []struct {
		name, method, body string
		headers            []string
		status             int
		says               string
	}{
		{"plain", "POST", good, nil, 200, "Published\n"},
		{"JSON", "POST", good, []string{"Accept", "application/json"}, 200, `{"message":"Published"}` + "\n"},
		{"a browser's Accept", "POST", good, []string{"Accept", "*/*"}, 200, "Published\n"},
		{"no Accept that is served", "POST", good, []string{"Accept", "image/png"}, 406, "text/plain"},
		{"GET", "GET", "", nil, 405, "POST"},
		{"no key", "POST", good, []string{"Authorization", ""}, 401, "needs the key"},
		{"another key", "POST", good, []string{"Authorization", "Bearer x"}, 401, "not one that the key has signed"},
		{"Basic", "POST", good, []string{"Authorization", "Basic " + base64.StdEncoding.EncodeToString([]byte("x:"+testKey))}, 200, "Published"},
		{"Basic, another password", "POST", good, []string{"Authorization", "Basic eDp5"}, 401, "password"},
		{"a token", "POST", good, []string{"Authorization", "Bearer " + tokenOf(p.Keys[0], time.Now())}, 200, "Published"},
		{"an old token", "POST", good, []string{"Authorization", "Bearer " + tokenOf(p.Keys[0], time.Now().Add(-2*time.Hour))}, 401, "expired"},
		{"no JSON", "POST", "{", nil, 400, "items"},
		{"no items", "POST", `{"items":[]}`, nil, 400, "1 to 1000"},
		{"no channel", "POST", `{"items":[{"http-stream":{"content":"data: x\n\n"}}]}`, nil, 400, "items[0]: a channel has no name"},
		{"another format", "POST", `{"items":[{"channel":"a","formats":{"ws-message":{"content":"x"}}}]}`, nil, 400, "http-stream"},
		{"half an event", "POST", stream(`"content":"data: x\n"`), nil, 400, "within an event"},
		{"text", "POST", stream(`"content":"hello\n"`), nil, 400, "server-sent events"},
		{"binary", "POST", stream(`"content-bin":"ZGF0YTogeAoK"`), nil, 200, "Published"},
		{"no base64", "POST", stream(`"content-bin":"?"`), nil, 400, "base64"},
		{"no content", "POST", stream(``), nil, 400, "no content"},
		{"a filter", "POST", stream(`"content":"data: x\n\n","content-filters":["http-modify"]`), nil, 400, "http-modify"},
		{"an action", "POST", stream(`"action":"refuse"`), nil, 400, "action"},
		{"an id of the hub", "POST", stream(`"content":"id: 1700000000000-0\ndata: x\n\n"`), nil, 400, "the hub's own"},
		{"a reserved type", "POST", stream(`"content":"event: evstream.x\ndata: x\n\n"`), nil, 400, "content"},
		{"too large", "POST", strings.Repeat(" ", MaxBody+1), nil, 413, "1000000"},
		{"compressed", "POST", good, []string{"Content-Encoding", "gzip"}, 415, "gzip"},
	} {
		w := send(p, tt.method, tt.body, tt.headers...)
		if w.Code != tt.status || !strings.Contains(w.Body.String(), tt.says) {
			t.Errorf("%s: %d %q", tt.name, w.Code, w.Body)
		}
	}
}

// The same id on a channel counts once within a minute, on another channel it is another.
func TestAnItemIsPublishedOnce(t *testing.T) {
	p := newPublisher(t)
	sub, err := p.Hub.Broker().Subscribe(broker.SubscribeOptions{Channels: []string{"a", "b"}, OwnIDs: true})
	if err != nil {
		t.Fatal(err)
	}
	defer sub.Close()
	for _, body := range []string{
		`{"items":[{"channel":"a","id":"1","http-stream":{"content":"data: 1\n\ndata: 2\n\n"}},{"channel":"b","id":1,"http-stream":{"content":"data: 3\n\n"}}]}`,
		`{"items":[{"channel":"a","id":"1","http-stream":{"content":"data: 1\n\ndata: 2\n\n"}},{"channel":"a","id":"2","http-stream":{"content":"id: 2\ndata: 4\n\n"}}]}`,
	} {
		if w := send(p, "POST", body); w.Code != 200 {
			t.Fatal(w.Code, w.Body)
		}
	}
	var batch broker.Batch
	if err := sub.Read(&batch); err != nil || string(batch.Bytes) != "data: 1\n\ndata: 2\n\ndata: 3\n\nid: 2\ndata: 4\n\n" {
		t.Errorf("%q, %v", batch.Bytes, err)
	}
}

// Whoever forges a token, or takes another algorithm, may not publish.
func TestForgedTokensDoNotPublish(t *testing.T) {
	keys, _ := NewKeys(testKey, "", "me")
	other, _ := NewKeys("another-key", "", "me")
	stranger, _ := NewKeys(testKey, "", "you")
	b64 := base64.RawURLEncoding.EncodeToString
	none := b64([]byte(`{"alg":"none"}`)) + "." + b64([]byte(`{"iss":"me","exp":9999999999}`)) + "."
	signed := func(header, claims string) string {
		s := b64([]byte(header)) + "." + b64([]byte(claims))
		return s + "." + b64(mac([]byte(testKey), s))
	}
	now := time.Now()
	for name, token := range map[string]string{
		"another key": tokenOf(other, now), "another issuer": tokenOf(stranger, now), "alg none": none, "two parts": "a.b", "four": tokenOf(keys, now) + ".x",
		"Grip-Sig":  keys.Sign(now), // which an application may show to clients
		"RS256":     signed(`{"alg":"RS256"}`, `{"iss":"me","exp":9999999999}`),
		"no exp":    signed(`{"alg":"HS256"}`, `{"iss":"me"}`),
		"to come":   signed(`{"alg":"HS256"}`, `{"iss":"me","exp":9999999999,"nbf":9999999999}`),
		"crit":      signed(`{"alg":"HS256","crit":["x"]}`, `{"iss":"me","exp":9999999999}`),
		"no claims": signed(`{"alg":"HS256"}`, `x`),
	} {
		r := httptest.NewRequest("POST", "/", nil)
		r.Header.Set("Authorization", "Bearer "+token)
		if keys.MayPublish(r, now) == nil {
			t.Errorf("%s may publish", name)
		}
	}
	r := httptest.NewRequest("POST", "/", nil)
	r.Header.Set("Authorization", "Bearer "+signed(`{"alg":"HS256"}`, `{"iss":"me","exp":9999999999}`))
	if err := keys.MayPublish(r, now); err != nil {
		t.Error(err)
	}
	r.Header.Set("Authorization", "Bearer "+tokenOf(keys, now))
	if err := keys.MayPublish(r, now); err != nil {
		t.Error(err)
	}
	if _, err := NewKeys("short", "", ""); err == nil {
		t.Error("a short key is taken")
	}
	binary := make([]byte, 32)
	_, _ = rand.Read(binary)
	k, err := NewKeys("base64:"+base64.StdEncoding.EncodeToString(binary), "", "")
	if err != nil || string(k.publish.secret) != string(binary) {
		t.Error(err)
	}
}

func FuzzItems(f *testing.F) {
	f.Add([]byte(`{"items":[{"channel":"a","id":"1","prev-id":"0","meta":{"skip_users":"a,b","sender":"c","require_sub":"d"},"http-stream":{"content":"data: %I\n\n","content-filters":["build-id"]}}]}`))
	f.Add([]byte(`{"items":[{"channel":"a","formats":{"http-stream":{"action":"close"}}}]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		items, err := readItems(body)
		if err != nil {
			return
		}
		for n := range items {
			ops, err := items[n].ops()
			if err != nil {
				continue
			}
			for i := range ops {
				if err := broker.CheckEvent(&ops[i].Event); err != nil {
					t.Error(err)
				}
				if f := ops[i].Filter; f != nil && len(f.To)+len(f.Except) > broker.MaxFilter {
					t.Error(f)
				}
			}
			if items[n].id != "" {
				if of := idsOf(ops[0].Filter); of.id != items[n].id || of.hasPrev != items[n].hasPrev || of.prev != items[n].prevID {
					t.Errorf("%+v of %+v", of, items[n])
				}
			}
		}
	})
}

// tokenOf is a token that publishes.
func tokenOf(k *Keys, now time.Time) string {
	b64 := base64.RawURLEncoding.EncodeToString
	s := b64([]byte(`{"alg":"`+k.publish.algorithm()+`"}`)) + "." + b64(fmt.Appendf(nil, `{"iss":%q,"exp":%d}`, k.issuer, now.Add(lifetime).Unix()))
	return s + "." + b64(k.publish.sign(s))
}

// The signature is what libraries check: three parts, HS256, iss and exp. What else it says
// they ignore.
func TestTheSignatureIsOfTheProtocol(t *testing.T) {
	k, _ := NewKeys("changeme", "", "pushpin")
	now := time.Unix(1700000000, 0)
	parts := strings.Split(k.Sign(now), ".")
	claims, err := base64.RawURLEncoding.DecodeString(parts[1])
	var said map[string]any
	if err != nil || json.Unmarshal(claims, &said) != nil || len(said) != 3 || said["use"] != "sig" || said["iss"] != "pushpin" || said["exp"] != float64(1700003600) {
		t.Errorf("%s, %v", claims, err)
	}
}
