package evstream

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	gojwt "github.com/golang-jwt/jwt/v5"

	"github.com/evstream/caddy-evstream/hub"
	"github.com/evstream/caddy-evstream/internal/authtest"
	"github.com/evstream/caddy-evstream/stream"
)

// revocable is a site that accepts tokens, with an admin endpoint.
func revocable(t testing.TB) (site, admin string) {
	t.Helper()
	address, endpoint := freeAddress(t), freeAddress(t)
	load(t, withAdmin(endpoint, address, "",
		"\t\tjwt {\n\t\t\tkey \""+authtest.Secret+"\"\n\t\t}\n\t\ttickets\n\t\tallow anyone subscribe,publish **"))
	return address, "http://" + endpoint + "/evstream/_revocations"
}

func revoke(t testing.TB, admin, what string) hub.Revoked {
	t.Helper()
	status, body := post(t, admin, what)
	var doc hub.Revoked
	if err := json.Unmarshal([]byte(body), &doc); err != nil || status != http.StatusOK {
		t.Fatalf("revoking %s: %d %s", what, status, body)
	}
	return doc
}

func TestRevokingEndsStreamsAndRefusesWhatOpenedThem(t *testing.T) {
	address, admin := revocable(t)
	base := "http://" + address + "/live/a"
	iat := time.Now().Unix() - 10
	alice := authtest.Bearer(t, gojwt.MapClaims{"jti": "a1", "iat": iat})
	alice2 := authtest.Bearer(t, gojwt.MapClaims{"jti": "a2", "iat": iat})
	bob := authtest.Bearer(t, gojwt.MapClaims{"sub": "bob", "jti": "b1", "iat": iat})
	timeless := authtest.Bearer(t, gojwt.MapClaims{"jti": "a3"})
	refused := func(change func(*http.Request)) {
		t.Helper()
		if s := connect(t, base, change); s.status != http.StatusUnauthorized {
			t.Errorf("got %d", s.status)
		}
		if status, _ := post(t, base, "x", change); status != http.StatusUnauthorized {
			t.Errorf("publishing: got %d", status)
		}
	}

	// A token, and the tickets that were given for it.
	ticket := base + "?ticket=" + askTicketWith(t, address, alice)
	one, two, three := subscribe(t, base, alice), subscribe(t, base, alice2), subscribe(t, base, bob)
	four := subscribe(t, ticket)
	if doc := revoke(t, admin, `{"token":"a1","for":"1h"}`); doc.Streams != 2 || doc.Token != "a1" || doc.Until.IsZero() {
		t.Errorf("got %+v", doc)
	}
	one.ended()
	four.ended()
	refused(alice)
	if s := connect(t, ticket); s.status != http.StatusUnauthorized {
		t.Errorf("its ticket: %d", s.status)
	}

	// A user: all that was issued before.
	reading := func(n int) bool {
		doc, _ := theHub(t, "default").Broker().Channel("a")
		return doc.Subscribers == n
	}
	eventually(t, "two streams to be left", func() bool { return reading(2) })
	cursor := lastEventID(t, base, alice2)
	eventually(t, "the poll for a cursor to have ended", func() bool { return reading(2) })
	poll := make(chan int)
	go func() {
		status, _ := send(t, "GET", base+"?poll=1&timeout=60&last_event_id="+cursor, "", alice2)
		poll <- status
	}()
	eventually(t, "the poll to wait", func() bool { return reading(3) })
	if doc := revoke(t, admin, `{"user":"alice"}`); doc.Streams != 1 {
		t.Errorf("got %+v", doc)
	}
	two.ended()
	if status := <-poll; status != http.StatusUnauthorized {
		t.Errorf("the poll got %d", status)
	}
	refused(alice2)
	refused(timeless) // it may be of before
	second := time.Now().Unix()
	eventually(t, "the next second", func() bool { return time.Now().Unix() > second })
	fresh := authtest.Bearer(t, gojwt.MapClaims{"jti": "a4", "iat": time.Now().Unix() + 5})
	subscribe(t, base, fresh)

	// A session, with what opened it.
	id := sessionOf(t, "bob")
	if doc := revoke(t, admin, fmt.Sprintf(`{"session":%q}`, id)); doc.Streams != 1 || doc.Token != "b1" {
		t.Errorf("got %+v", doc)
	}
	three.ended()
	refused(bob)

	// All of it lives over a reload, is listed, and can be lifted.
	h := theHub(t, "default")
	eventually(t, "the streams to be counted as revoked", func() bool {
		return h.Stats().Disconnects[stream.ReasonRevoked] == 4
	})
	status, body := send(t, "GET", admin, "")
	for _, want := range []string{`{"user":"alice","at":"`, `{"token":"a1","at":"`, `"until":"`, `{"token":"b1"`} {
		if status != http.StatusOK || !strings.Contains(body, want) {
			t.Errorf("got %d %s, want %s", status, body, want)
		}
	}
	_, body = send(t, "GET", admin+"?limit=1", "")
	if !strings.Contains(body, `"next":"user:alice"`) || strings.Contains(body, "a1") {
		t.Errorf("got %s", body)
	}
	_, body = send(t, "GET", admin+"?limit=5&after=user:alice", "")
	if strings.Contains(body, "alice") || !strings.Contains(body, "a1") || strings.Contains(body, "next") {
		t.Errorf("got %s", body)
	}
	if status, _ := send(t, "DELETE", admin+"?user=alice", ""); status != http.StatusNoContent {
		t.Errorf("got %d", status)
	}
	subscribe(t, base, alice2)
	refused(alice)
}

// askTicketWith asks for a ticket with a credential.
func askTicketWith(t testing.TB, address string, change func(*http.Request)) string {
	t.Helper()
	status, body := send(t, "POST", "http://"+address+"/live/_tickets", "", change)
	var doc struct{ Ticket string }
	if err := json.Unmarshal([]byte(body), &doc); err != nil || status != http.StatusOK {
		t.Fatalf("got %d %s", status, body)
	}
	return doc.Ticket
}

func lastEventID(t testing.TB, url string, change func(*http.Request)) string {
	_, body := send(t, "GET", url+"?poll=1", "", change)
	var answer struct {
		LastEventID string `json:"last_event_id"`
	}
	if err := json.Unmarshal([]byte(body), &answer); err != nil {
		t.Error(err)
	}
	return answer.LastEventID
}

// sessionOf is the session of the one stream of a user.
func sessionOf(t testing.TB, user string) string {
	t.Helper()
	return sessionAt(t, theHub(t, "default"), user)
}

// A body that goes on publishing is cut like a stream: with the next event.
func TestPublishingEndsWithTheCredential(t *testing.T) {
	address, admin := revocable(t)
	for name, tt := range map[string]struct {
		lasts int64 // in seconds
		end   func(exp int64)
	}{
		"revoked": {3600, func(int64) { revoke(t, admin, `{"token":"revoked"}`) }},
		"expired": {5, func(exp int64) {
			eventually(t, "the token to expire", func() bool { return time.Now().Unix() >= exp })
		}},
	} {
		t.Run(name, func(t *testing.T) {
			exp := time.Now().Unix() + tt.lasts
			url := "http://" + address + "/live/" + name
			s := subscribe(t, url)
			body, feed := io.Pipe()
			r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, body)
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("Content-Type", "application/x-ndjson")
			authtest.Bearer(t, gojwt.MapClaims{"jti": name, "exp": exp})(r)
			answers := make(chan string)
			go func() {
				resp, err := client.Do(r)
				if err != nil {
					answers <- err.Error()
					return
				}
				defer resp.Body.Close()
				text, _ := io.ReadAll(resp.Body)
				answers <- fmt.Sprint(resp.StatusCode, " ", string(text))
			}()
			fmt.Fprintln(feed, "one")
			s.expect("one")
			tt.end(exp)
			go fmt.Fprintln(feed, "two")
			defer feed.Close()
			var answer string
			select {
			case answer = <-answers:
			case <-time.After(patience):
			}
			if !strings.HasPrefix(answer, "401 ") || !strings.Contains(answer, `"published":1`) {
				t.Errorf("got %q", answer)
			}
		})
	}
}

func TestRevocationsLiveOverReloads(t *testing.T) {
	address, admin := revocable(t)
	base := "http://" + address + "/live/a"
	alice := authtest.Bearer(t, gojwt.MapClaims{"jti": "a1"})
	revoke(t, admin, `{"token":"a1"}`)
	endpoint := strings.TrimSuffix(strings.TrimPrefix(admin, "http://"), "/evstream/_revocations")
	if err := reload(t, withAdmin(endpoint, address, "", "\t\tjwt {\n\t\t\tkey \""+authtest.Secret+"\"\n\t\t}\n\t\tallow anyone subscribe,publish **")); err != nil {
		t.Fatal(err)
	}
	if s := connect(t, base, alice); s.status != http.StatusUnauthorized {
		t.Errorf("got %d", s.status)
	}
}

func TestRevocationsThatAreRefused(t *testing.T) {
	address, admin := revocable(t)
	for _, tt := range []struct {
		method, query, body string
		status              int
		want                string
	}{
		{"POST", "", ``, 400, "an object of strings"},
		{"POST", "", `[]`, 400, "an object of strings"},
		{"POST", "", `{"user":7}`, 400, "an object of strings"},
		{"POST", "", `{}`, 400, "name one of user, token and session, not 0"},
		{"POST", "", `{"user":"a","token":"b"}`, 400, "not 2"},
		{"POST", "", `{"user":""}`, 400, "user has 1 to 1024 bytes, not 0"},
		{"POST", "", `{"user":"` + strings.Repeat("x", 1025) + `"}`, 400, "not 1025"},
		{"POST", "", `{"user":"a","for":"soon"}`, 400, "for is a duration"},
		{"POST", "", `{"user":"a","for":"-1h"}`, 400, "for is a duration"},
		{"POST", "", `{"user":"a","until":"x"}`, 400, `there is no member \"until\"`},
		{"POST", "", `{"session":"x"}`, 404, "there is no such session"},
		{"POST", "", `{"user":"` + strings.Repeat("x", 70_000) + `"}`, 413, ""},
		{"DELETE", "", "", 400, "either user or token"},
		{"DELETE", "?user=a&token=b", "", 400, "either user or token"},
		{"DELETE", "?user=a", "", 404, "nothing of that name"},
		{"PUT", "", "", 405, "_revocations revokes with POST"},
		{"GET", "?limit=0", "", 400, "limit"},
	} {
		t.Run(tt.method+tt.query+tt.body[:min(40, len(tt.body))], func(t *testing.T) {
			status, body := send(t, tt.method, admin+tt.query, tt.body)
			if status != tt.status || !strings.Contains(body, tt.want) {
				t.Errorf("got %d %s, want %d and %q", status, body, tt.status, tt.want)
			}
		})
	}
	// The site has no such resource.
	for _, method := range []string{"GET", "POST", "DELETE"} {
		status, body := send(t, method, "http://"+address+"/live/_revocations", `{"user":"a"}`)
		if status != http.StatusNotFound {
			t.Errorf("%s: got %d %s", method, status, body)
		}
	}
}
