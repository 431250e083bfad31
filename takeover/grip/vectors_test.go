package grip

import (
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/evstream/caddy-evstream/broker"
)

// Requests as libraries send them: recorded from js-grip 4.3.0 on Node.js 20, in the form
// of django-eventstream with pypubcontrol.
func TestRequestsOfLibrariesPublish(t *testing.T) {
	const token = "Bearer eyJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJldnN0cmVhbSIsImV4cCI6MTc5NTkzNTEyNH0.R07zZielbwPxPQbE7kOQOuQIkayvsSeDjNcB7qEA_Y8"
	signed := time.Unix(1795935124, 0).Add(-10 * time.Minute)
	keys, _ := NewKeys(testKey, "", "")
	for _, authorization := range []string{"Bearer a-key-of-the-test", token, "Basic ZXZzdHJlYW06YS1rZXktb2YtdGhlLXRlc3Q="} {
		r := httptest.NewRequest("POST", "/", nil)
		r.Header.Set("Authorization", authorization)
		if err := keys.MayPublish(r, signed); err != nil {
			t.Errorf("%.12s: %v", authorization, err)
		}
	}

	p := newPublisher(t)
	sub, err := p.Hub.Broker().Subscribe(broker.SubscribeOptions{Channels: []string{"test", "events-time"}, OwnIDs: true})
	if err != nil {
		t.Fatal(err)
	}
	defer sub.Close()
	for _, body := range []string{
		`{"items":[{"formats":{"http-stream":{"content":"data: hello\n\n"}},"channel":"test"}]}`,
		`{"items":[{"formats":{"http-stream":{"content":"data: x\n\n"}},"id":"2","prev-id":"1","channel":"test"}]}`,
		`{"items":[{"formats":{"http-stream":{"action":"close","content":""}},"channel":"test"}]}`,
		`{"items":[{"formats":{"http-stream":{"content-bin":"ZGF0YTogYnl0ZXMKCg=="}},"channel":"test"}]}`,
		// django-eventstream: an event with storage, one without, and a kick.
		`{"items": [{"channel": "events-time", "id": "13", "prev-id": "12", "formats": {"http-stream": {"content": "event: message\nid: %I\ndata: \"100%%\"\n\n", "content-filters": ["build-id"]}}, "meta": {"skip_users": "3,4"}}]}`,
		`{"items": [{"channel": "events-time", "formats": {"http-stream": {"content": "event: message\ndata: 1\n\n"}}, "meta": {"skip_users": "3,4"}}]}`,
		`{"items": [{"channel": "user-5", "formats": {"http-stream": {"content": "event: stream-error\ndata: {\"condition\": \"forbidden\"}\n\n"}}, "meta": {"require_sub": "events-time"}}]}`,
		`{"items": [{"channel": "user-5", "formats": {"http-stream": {"action": "close"}}, "meta": {"require_sub": "events-time"}}]}`,
	} {
		if w := send(p, "POST", body, "Content-Type", "application/json", "Accept", "*/*", "Accept-Language", "*", "Sec-Fetch-Mode", "cors", "User-Agent", "node", "Accept-Encoding", "gzip, deflate"); w.Code != 200 || w.Body.String() != "Published\n" {
			t.Errorf("%s: %d %s", body, w.Code, w.Body)
		}
	}
	// A reader that is no GRIP stream gets what is no template.
	var batch broker.Batch
	if err := sub.Read(&batch); err != nil || strings.ReplaceAll(string(batch.Bytes), "\n", "|") != "data: hello||data: x||data: bytes||data: 1||" {
		t.Errorf("%q, %v", batch.Bytes, err)
	}
}
