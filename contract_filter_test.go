package evstream

import (
	"slices"
	"strings"
	"testing"

	gojwt "github.com/golang-jwt/jwt/v5"

	"github.com/evstream/caddy-evstream/broker"
)

// openedAs is the session that an opening names.
func openedAs(opening string) string {
	_, rest, _ := strings.Cut(opening, `"session":"`)
	id, _, _ := strings.Cut(rest, `"`)
	return id
}

func TestAnEventReachesWhomItIsFor(t *testing.T) {
	eachServer(t, func(t *testing.T, on server) {
		setTableSecrets(t)
		e := on.start(t, withTable("user all **", "anyone subscribe **"))
		bearer := func(claims gojwt.MapClaims) string { return "Authorization: Bearer " + tableToken(t, claims) }
		bobs := bearer(gojwt.MapClaims{"sub": "bob", "roles": []string{"editor", "reader"}})
		publish := func(path, body string) {
			t.Helper()
			root := bearer(gojwt.MapClaims{"sub": "root"})
			if resp := ask(t, e, request{"POST", path, []string{root}, body}); resp.StatusCode != 200 {
				t.Fatalf("%s: %s", path, bodyOf(t, resp))
			}
		}
		alice, bob, nobody := openStream(t, e, "/live/a", bearer(gojwt.MapClaims{"sub": "alice", "role": "admin"})), openStream(t, e, "/live/a", bobs), openStream(t, e, "/live/a")
		session := openedAs(bob.opening())
		alice.opening()
		nobody.opening()
		for i, to := range []string{"to=user:alice", "to=session:" + session, "to=user:alice&to=user:bob", "except=user:alice", "except=session:" + session + "&except=user:alice", "except=" + session, "to=user:bob&except=session:" + session} {
			publish("/live/a?"+to, string(rune('1'+i)))
		}
		publish("/live/_publish", `{"channel":"a","data":"8","to":["user:alice"],"except":"user:bob"}`)
		publish("/live/a?to=user:carol", "9")
		publish("/live/a?to=claim:role=admin", "A")
		publish("/live/a?to=claim:roles=editor&to=claim:role=editor", "B")
		publish("/live/a?close", "end")
		for name, tt := range map[string]struct {
			r    *blockReader
			want string
		}{"alice": {alice, "1 3 6 8 A end"}, "bob": {bob, "2 3 4 B end"}, "nobody": {nobody, "4 5 6 end"}} {
			var got []string
			for block := tt.r.event(); !strings.HasPrefix(block, "id: evstream.end"); block = tt.r.event() {
				got = append(got, strings.TrimSuffix(strings.TrimPrefix(block, "data: "), "\n"))
			}
			if strings.Join(got, " ") != tt.want {
				t.Errorf("%s got %q, want %q", name, got, tt.want)
			}
		}
		// A replay is filtered alike, by who reads it; so is a poll.
		resp := ask(t, e, request{"GET", "/live/a?poll=1&since=earliest", []string{"Accept: application/json", bobs}, ""})
		body := bodyOf(t, resp)
		for data, want := range map[string]bool{"1": false, "2": false, "3": true, "4": true, "5": true, "6": true, "7": true, "8": false, "9": false} {
			if strings.Contains(body, `"data":"`+data+`"`) != want {
				t.Errorf("bob's poll has %s: %v, want %v: %s", data, !want, want, body)
			}
		}
	})
}

func TestWhomAnEventIsForIsAsked(t *testing.T) {
	eachServer(t, func(t *testing.T, on server) {
		e := on.start(t)
		for _, query := range []string{
			"to=", "to=alice", "to=user:", "to=session:x", "to=claim:role", "to=claim:=x", "to=claim:role=", "to=group:x", "except=nonsense", "except=user:", "except=&except=user:a", "except=user:a&except=", "except=" + strings.Repeat("n", 250) + "." + strings.Repeat("A", 22),
			"to=user:" + strings.Repeat("x", broker.MaxTerm), strings.TrimPrefix(manyTerms(broker.MaxFilter+1), "&"),
		} {
			if doc := wantProblem(t, ask(t, e, asBackend("POST", "/live/a?"+query, "x")), 400, "bad-event"); !strings.Contains(doc.Detail, "can name nobody") && !strings.Contains(doc.Detail, "can be none") && !strings.Contains(doc.Detail, "at most 16") {
				t.Errorf("%s: %q", query, doc.Detail)
			} else if strings.HasPrefix(query, "except=nonsense") && !strings.Contains(doc.Detail, "as evstream.open has it") {
				t.Errorf("%s does not say what is allowed alone: %q", query, doc.Detail)
			}
		}
		for _, body := range []string{`{"channel":"a","to":"alice"}`, `{"channel":"a","to":[1]}`, `{"channel":"a","to":{}}`, `{"channel":"a","to":[]}`, `{"channel":"a","except":["user:"]}`, `{"channel":"a","state":1,"to":"user:a"}`} {
			if resp := ask(t, e, asBackend("POST", "/live/_publish", body)); resp.StatusCode != 400 {
				t.Errorf("%s: %d", body, resp.StatusCode)
			}
		}
		mustPost(t, e, "/live/a?to=claim:role=admin=1"+manyTerms(broker.MaxFilter-1), "x")
		if resp := ask(t, e, asBackend("POST", "/live/a?to=user:b", "y", "Idempotency-Key: k")); resp.StatusCode != 200 {
			t.Errorf("with a key: %d", resp.StatusCode)
		}
		wantProblem(t, ask(t, e, asBackend("POST", "/live/a?to=user:c", "y", "Idempotency-Key: k")), 422, "key-reused")
		if got := kept(t, e, "a"); !slices.Equal(got, []string{}) {
			t.Errorf("nobody reads %q", got)
		}
	})
}

func manyTerms(n int) (q string) {
	for i := range n {
		q += "&to=user:" + string(rune('a'+i))
	}
	return q
}
