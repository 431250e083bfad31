package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

const jwtKey = "a secret that the tests of tokens share with Caddy"

// tokenOf is a token of a user.
func tokenOf(t testing.TB, user string, exp time.Time) string {
	t.Helper()
	token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{
		"sub": user, "exp": exp.Unix(), "iat": time.Now().Unix() - 10,
	}).SignedString([]byte(jwtKey))
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// tokenSite accepts tokens and issues tickets.
func tokenSite(more string) string {
	return config("", `
	evstream /live/* {
		jwt {
			key "`+jwtKey+`"
		}
		tickets {
			lifetime 1s
		}
		allow anyone subscribe,publish **
		retry 100ms 200ms
`+more+`
	}
`)
}

// revoke revokes all tokens of a user, and returns how many streams that ended.
func (s *server) revoke(user string) int {
	s.t.Helper()
	answer, err := plainClient(s.t).Post("http://"+s.admin+"/evstream/_revocations", "", strings.NewReader(fmt.Sprintf(`{"user":%q}`, user)))
	if err != nil {
		s.t.Fatal(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode != http.StatusOK {
		s.t.Fatalf("revoking: %s %s, %v", answer.Status, body, err)
	}
	var doc struct{ Streams int }
	if err := json.Unmarshal(body, &doc); err != nil {
		s.t.Fatal(err)
	}
	return doc.Streams
}

// closedFor is the state of an EventSource that was refused.
const closedFor = 2

func TestEventSourceWithACookie(t *testing.T) {
	t.Parallel()
	token := tokenOf(t, "alice", time.Now().Add(time.Hour))
	// Browsers send the cookie to every port of this host, so that its name must not
	// be one that the Caddy of another test reads.
	s := start(t, strings.ReplaceAll(tokenSite("\t\tcookie alices"), "(site) {", `(site) {
	header /login Set-Cookie "alices=`+token+`; Path=/live; HttpOnly; Secure; SameSite=Strict"
	header /broken Set-Cookie "alices=nonsense; Path=/live; HttpOnly; Secure; SameSite=Strict"
	respond /login in
	respond /broken in
`))
	p := newPage(t, "https://"+s.tls+"/broken")
	refused := p.follow(t, "/live/a")
	eventually(t, "a wrong cookie to be refused", func() bool { return refused.feed(t).State == closedFor })

	await[bool](t, p, `fetch("/login").then(() => true)`)
	if cookies := eval[string](t, p, "document.cookie"); strings.Contains(cookies, "alices") {
		t.Errorf("scripts can read %q", cookies)
	}
	feed := p.follow(t, "/live/a")
	eventually(t, "the stream to open", func() bool { return len(feed.feed(t).Openings) == 1 })
	pub := &publisher{client: plainClient(t), base: "http://" + s.plain + "/live"}
	if err := pub.publish("a"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the event", func() bool { return len(feed.feed(t).Messages) == 1 })

	// A page of another origin may not read, and the browser does not send the
	// cookie.
	foreign := newPage(t, "http://"+s.plain+"/page")
	away := foreign.follow(t, "https://"+s.tls+"/live/a")
	eventually(t, "the foreign page to be refused", func() bool { return away.feed(t).State == closedFor })
	if got := away.feed(t); len(got.Openings)+len(got.Messages) > 0 {
		t.Errorf("the foreign page has got %+v", got)
	}

	// The cookie has opened one stream, of Alice.
	if n := s.revoke("bob"); n != 0 {
		t.Errorf("bob had %d streams", n)
	}
	if n := s.revoke("alice"); n != 1 {
		t.Errorf("alice had %d streams", n)
	}
	eventually(t, "the stream to be refused", func() bool { return feed.feed(t).State == closedFor })
}

func TestEventSourceWithATicket(t *testing.T) {
	t.Parallel()
	// Streams end after a second at most, when the ticket's lifetime is over, too.
	s := start(t, tokenSite("\t\tmax_age 1s\n\t\tcors http://{{plain}}"))
	token := tokenOf(t, "alice", time.Now().Add(time.Hour))
	for name, origin := range map[string]string{"of the same origin": "https://" + s.tls, "of another origin": "http://" + s.plain} {
		t.Run(name, func(t *testing.T) {
			p := newPage(t, origin+"/page")
			base := "https://" + s.tls + "/live"
			ticket := await[string](t, p, fmt.Sprintf(
				`fetch(%q, {method: "POST", headers: {Authorization: "Bearer " + %q}}).then(r => r.json()).then(r => r.ticket)`, base+"/_tickets", token))
			channel := strings.ReplaceAll(name, " ", "-")
			feed := p.follow(t, base+"/"+channel+"?ticket="+ticket)
			eventually(t, "the stream to open", func() bool { return len(feed.feed(t).Openings) == 1 })
			pub := &publisher{client: plainClient(t), base: "http://" + s.plain + "/live", key: channel}
			eventually(t, "three reconnects", func() bool {
				if err := pub.publish(channel); err != nil {
					t.Fatal(err)
				}
				return len(feed.feed(t).Openings) >= 4
			})
			eventually(t, "every event, once and in order", func() bool { return len(feed.feed(t).Messages) >= pub.last })
			wantNumbers(t, feed.feed(t).Messages, pub.last)
			// The same ticket opens nothing in a page of another origin.
			elsewhere := newPage(t, "https://"+s.tls+"/page")
			if strings.HasPrefix(origin, "https") {
				elsewhere = newPage(t, "http://"+s.plain+"/page")
			}
			stolen := elsewhere.follow(t, base+"/"+channel+"?ticket="+ticket)
			eventually(t, "the other page to be refused", func() bool { return stolen.feed(t).State == closedFor })
		})
	}
}

// TestATicketIsRenewedWithoutLosingAnEvent: the script of docs/tokens.md renews its
// ticket each time before it expires. Events with a name come once, too, and they are
// the last ones before a renewal.
func TestATicketIsRenewedWithoutLosingAnEvent(t *testing.T) {
	t.Parallel()
	s := start(t, tokenSite(""))
	p := newPage(t, "https://"+s.tls+"/page")
	eval[bool](t, p, fmt.Sprintf("(() => { window.follow = %s; return true })()", documented(t, "docs/tokens.md", "function follow(")))
	// Each token is valid for eight seconds; the page uses the newest that its
	// application has given it.
	first := time.Now()
	var tokens []string
	for i := range 120 {
		tokens = append(tokens, tokenOf(t, "alice", first.Add(time.Duration(i+8)*time.Second)))
	}
	list, err := json.Marshal(tokens)
	if err != nil {
		t.Fatal(err)
	}
	eval[bool](t, p, fmt.Sprintf(`(() => {
		const tokens = %s, first = %d;
		window.got = []; window.renewals = 0;
		const token = async () => { window.renewals++; return tokens[Math.floor((Date.now() - first) / 1000)]; };
		follow("/live/a", "/live/_tickets", token, ["message", "score"], e => got.push({type: e.type, id: e.lastEventId, data: e.data}));
		return true;
	})()`, list, first.UnixMilli()))
	eventually(t, "the stream to open", func() bool { return s.metric(`evstream_connections{broker="default"}`) == 1 })
	pub := &publisher{client: plainClient(t), base: "http://" + s.plain + "/live", key: "renewal"}
	eventually(t, "three renewals", func() bool {
		target := "a?event=score"
		if pub.last%5 == 0 {
			target = "a"
		}
		if err := pub.publish(target); err != nil {
			t.Fatal(err)
		}
		return eval[int](t, p, "renewals") >= 4
	})
	eventually(t, "every event", func() bool { return eval[int](t, p, "got.length") >= pub.last })
	wantNumbers(t, eval[[]event](t, p, "got"), pub.last)
	if n := s.disconnects("expired"); n != 0 {
		t.Errorf("%d streams expired before they were renewed", n)
	}
}

// wantNumbers fails the test unless the events are 1, 2, 3 … last.
func wantNumbers(t testing.TB, got []event, last int) {
	t.Helper()
	var numbers, want []string
	for _, e := range got {
		numbers = append(numbers, e.Data)
	}
	for i := range last {
		want = append(want, fmt.Sprint(i+1))
	}
	if !slices.Equal(numbers, want) {
		t.Errorf("got %v, want 1 to %d", numbers, last)
	}
}
