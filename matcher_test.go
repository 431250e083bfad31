package evstream

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"

	"github.com/evstream/caddy-evstream/access"
)

func TestMatchersDecideForTheRequest(t *testing.T) {
	address := freeAddress(t)
	load(t, options("")+"http://"+address+` {
	@office header X-Office yes
	@both {
		header X-Office yes
		header X-Badge *
	}
	evstream /live/* {
		allow @office subscribe,publish office/*
		allow @both   publish           vault
	}
}
`)
	office, badge := header("X-Office", "yes"), header("X-Badge", "7")
	if status, _ := post(t, "http://"+address+"/live/office/1", "x"); status != 403 {
		t.Errorf("nobody: %d", status)
	}
	if status, body := post(t, "http://"+address+"/live/office/1", "x", office); status != 200 {
		t.Errorf("the office: %d %s", status, body)
	}
	if status, _ := post(t, "http://"+address+"/live/vault", "x", office); status != 403 {
		t.Errorf("the office, at the vault: %d", status)
	}
	if status, _ := post(t, "http://"+address+"/live/vault", "x", badge); status != 403 {
		t.Errorf("a badge alone: %d", status)
	}
	if status, body := post(t, "http://"+address+"/live/vault", "x", office, badge); status != 200 {
		t.Errorf("both: %d %s", status, body)
	}
	subscribe(t, "http://"+address+"/live/?channel=office/*", office).cancel()
}

func TestAStreamAllowedByAMatcherOutlivesAReload(t *testing.T) {
	address := freeAddress(t)
	const matchers = "\t@office header X-Office yes\n\t@guests not vars staff yes\n\t@staff vars staff yes\n"
	config := func(more string) string {
		return options("") + "http://" + address + " {\n" + matchers + more + `
	evstream /live/* {
		allow @office subscribe office
		allow @staff  subscribe staff
		allow @guests subscribe guests
		allow anyone  publish   **
	}
}
`
	}
	// What "vars" sets in front is known of a request, and not of one that is
	// made again.
	load(t, config("\t@flag header X-Staff yes\n\tvars @flag staff yes\n"))
	url := "http://" + address + "/live/"
	office := subscribe(t, url+"office", header("X-Office", "yes"))
	guest := subscribe(t, url+"guests")
	staff := subscribe(t, url+"staff", header("X-Staff", "yes"))
	if s := connect(t, url+"guests", header("X-Staff", "yes")); s.status != 403 {
		t.Errorf("the staff is a guest: %d", s.status)
	}
	if err := reload(t, config("\t@flag header X-Staff yes\n\tvars @flag staff yes\n\t# changed\n\trespond /x x\n")); err != nil {
		t.Fatal(err)
	}
	staff.ended() // what cannot be known does not match
	mustPublish(t, url+"office", "1")
	office.expect("1")
	mustPublish(t, url+"guests", "2")
	guest.expect("2")
}

// A page of any origin, in a browser that is where the matcher asks for, is not
// there itself: it may do what anyone may.
func TestAMatcherIsNotForPagesOfAnyOrigin(t *testing.T) {
	address := freeAddress(t)
	config := func(cors string) string {
		return options("") + "http://" + address + ` {
	@inside remote_ip 127.0.0.1
	evstream /live/* {
		cors ` + cors + `
		allow @inside subscribe,publish,state inside
		allow anyone  subscribe               public
	}
}
`
	}
	url := "http://" + address + "/live/"
	json, foreign := header("Accept", "application/json"), header("Origin", "https://www.evil.example")
	for cors, inside := range map[string]int{"*": 403, "https://*.evil.example": 403, "https://www.evil.example": 200} {
		t.Run(cors, func(t *testing.T) {
			load(t, config(cors))
			if status, body := send(t, "PUT", url+"inside", `"secret"`); status != 201 {
				t.Fatal(status, body)
			}
			s := connect(t, url+"inside", foreign)
			if s.cancel(); s.status != inside {
				t.Errorf("a stream: %d, want %d", s.status, inside)
			}
			for _, read := range []string{"GET inside?poll=1", "GET inside?info", "GET inside", "HEAD inside"} {
				method, path, _ := strings.Cut(read, " ")
				if status, body := send(t, method, url+path, "", json, foreign); status != inside {
					t.Errorf("%s: %d %s, want %d", read, status, body, inside)
				}
			}
			if status, _ := send(t, "POST", url+"inside", "x", foreign); status != inside {
				t.Errorf("publishing: %d, want %d", status, inside)
			}
			if status, _ := send(t, "GET", url+"public?poll=1", "", json, foreign); status != 200 {
				t.Errorf("what anyone may: %d", status)
			}
			for _, own := range []func(*http.Request){header("Origin", "http://"+address), func(*http.Request) {}} {
				if status, _ := send(t, "POST", url+"inside", "x", own); status != 200 {
					t.Errorf("publishing from inside: %d", status)
				}
			}
		})
	}
}

// A matcher that says "not" matches a request of which too little is known.
func TestAMatcherThatDidNotMatchDoesNotMatchAfterAReload(t *testing.T) {
	address := freeAddress(t)
	config := func(rules string) string {
		return options("") + "http://" + address + ` {
	@flag header X-Staff yes
	vars @flag staff yes
	@guests not vars staff yes
	evstream /live/* {
` + rules + `
		allow anyone publish **
	}
}
`
	}
	load(t, config("\t\tallow anyone subscribe **\n\t\tallow @guests subscribe guests"))
	url := "http://" + address + "/live/guests"
	staff := subscribe(t, url, header("X-Staff", "yes"))
	guest := subscribe(t, url)
	if err := reload(t, config("\t\tallow @guests subscribe guests")); err != nil {
		t.Fatal(err)
	}
	staff.ended()
	mustPublish(t, url, "1")
	guest.expect("1")
}

func TestAMatcherNeedsACondition(t *testing.T) {
	for name, match := range map[string]string{
		"no matcher":       ``,
		"no set":           `"match": [],`,
		"an empty set":     `"match": [{}],`,
		"one of two empty": `"match": [{"path": ["/a"]}, {}],`,
	} {
		t.Run(name, func(t *testing.T) {
			err := validateJSON(t, `{"apps": {"http": {"servers": {"s": {"routes": [{"handle": [
				{"handler": "evstream", "allow": [{"who": "@x", `+match+` "do": ["all"], "channels": ["**"]}]}
			]}]}}}}}`)
			if err == nil || !strings.Contains(err.Error(), "the matcher @x has no condition, so it would match everybody") {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestAMatcherMatchesNothingOutsideOfAServer(t *testing.T) {
	rule := AllowRule{
		Who: "@x", Do: []string{"subscribe"}, Channels: []string{"**"},
		MatcherSetsRaw: []caddy.ModuleMap{{"method": []byte(`["GET"]`)}},
	}
	ctx, cancel := caddy.NewContext(caddy.Context{Context: t.Context()})
	defer cancel()
	h := &Handler{Allow: []AllowRule{rule}}
	policy, err := h.policy(ctx, h.authConfig())
	if err != nil {
		t.Fatal(err)
	}
	r := httptest.NewRequest("GET", "/", nil)
	matched := policy.Matched(r, nil)
	if len(matched) != 1 || policy.Decide(&access.Caller{Matched: matched}, access.Subscribe, "a").Allowed {
		t.Errorf("it matches: %v", matched)
	}
	// Within one it does.
	r = r.WithContext(context.WithValue(r.Context(), caddy.ReplacerCtxKey, caddy.NewReplacer()))
	if matched = policy.Matched(r, nil); !policy.Decide(&access.Caller{Matched: matched}, access.Subscribe, "a").Allowed {
		t.Errorf("it does not match: %v", matched)
	}
}
