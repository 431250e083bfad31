package evstream

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	gojwt "github.com/golang-jwt/jwt/v5"
	"golang.org/x/crypto/bcrypt"
)

// everyWay is a handler that accepts each kind of credential.
func everyWay(t testing.TB) *Handler {
	app := startApplication(t, says(200, `{"user":"application's"}`))
	h := ticketed()
	h.Cookie, h.InsecureQueryToken, h.CaddyAuth = "session", "token", true
	h.Verify = &VerifyConfig{URL: app.URL}
	return h
}

// asCaddy is a request that a handler in front has authenticated.
func asCaddy(r *http.Request, user string) *http.Request {
	repl := caddy.NewReplacer()
	if user != "" {
		repl.Set("http.auth.user.id", user)
	}
	repl.Set("http.auth.candidate.id", "candidate")
	return r.WithContext(context.WithValue(r.Context(), caddy.ReplacerCtxKey, repl))
}

func TestTheFirstCredentialDecides(t *testing.T) {
	a := accessOf(t, everyWay(t))
	token := func(user string) string { return sign(t, "HS256", aliceClaims(gojwt.MapClaims{"sub": user})) }
	made := requestFor("POST", "hub.example", "", "Authorization: Bearer "+token("ticket's"))
	maker, err := a.identify(asCaddy(made, ""))
	if err != nil {
		t.Fatal(err)
	}
	ticket := sealFor(t, a, maker, made)
	expired := sign(t, "HS256", aliceClaims(gojwt.MapClaims{"exp": 1}))
	const bearer, cookie, parameter = "Authorization: Bearer ", "Cookie: session=", "token="
	for _, tt := range []struct {
		name    string
		header  []string
		query   string
		caddy   string
		want    string // user, or "401", "400"
		ambient bool
	}{
		{"all of them", []string{bearer + token("header's"), cookie + token("cookie's")}, parameter + token("query's") + "&ticket=" + ticket, "caddy's", "header's", false},
		{"no header", []string{cookie + token("cookie's")}, parameter + token("query's") + "&ticket=" + ticket, "caddy's", "cookie's", true},
		{"no cookie", nil, parameter + token("query's") + "&ticket=" + ticket, "caddy's", "query's", false},
		{"no parameter", nil, "ticket=" + ticket, "caddy's", "ticket's", false},
		{"no ticket", nil, "", "caddy's", "caddy's", true},
		{"nothing but the application", nil, "", "", "application's", true},
		{"a bearer in the query", nil, parameter + backendSecret, "", "", false},

		{"an expired header", []string{bearer + expired, cookie + token("cookie's")}, "", "caddy's", "401", false},
		{"a wrong header", []string{bearer + "nonsense", cookie + token("cookie's")}, "", "caddy's", "401", false},
		{"an expired cookie", []string{cookie + expired}, parameter + token("query's"), "", "401", false},
		{"a bearer's secret in a cookie", []string{cookie + backendSecret}, "", "", "401", false},
		{"a wrong parameter", nil, parameter + "nonsense&ticket=" + ticket, "", "401", false},
		{"an empty parameter", nil, parameter + "&ticket=" + ticket, "", "401", false},
		{"a wrong ticket", nil, "ticket=x", "caddy's", "401", false},
		{"two cookies", []string{cookie + token("cookie's") + "; session=" + token("cookie's")}, "", "", "401", false},
		{"two parameters", nil, parameter + token("a") + "&" + parameter + token("b"), "", "400", false},
		{"two tickets", nil, "ticket=" + ticket + "&ticket=" + ticket, "", "400", false},

		{"an empty cookie, after logging out", []string{cookie}, "", "caddy's", "caddy's", true},
		{"another app's cookies", []string{"Cookie: other=x; sessions=y; Session=z"}, "", "caddy's", "caddy's", true},
		{"another scheme, which a handler in front has read", []string{"Authorization: Basic YTpi"}, "", "caddy's", "caddy's", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			who, err := a.identify(asCaddy(requestFor("GET", "hub.example", tt.query, tt.header...), tt.caddy))
			switch tt.want {
			case "401":
				refusedWith(t, err, http.StatusUnauthorized)
				return
			case "400":
				refusedWith(t, err, http.StatusBadRequest)
				return
			}
			if err != nil || who.user != tt.want || who.ambient != tt.ambient {
				t.Errorf("got %+v, %v", who, err)
			}
		})
	}
}

func TestNothingIsACredentialUnlessThatIsConfigured(t *testing.T) {
	token := sign(t, "HS256", aliceClaims(nil))
	r := asCaddy(requestFor("GET", "hub.example", "token="+token+"&ticket=x&access_token="+token,
		"Authorization: Bearer "+token, "Cookie: session="+token), "caddy's")
	who, err := accessOf(t, new(Handler)).identify(r)
	if err != nil || !who.anonymous() {
		t.Errorf("got %+v, %v", who, err)
	}
	if a := accessOf(t, new(Handler)); a.identifies() {
		t.Error("credentials are asked for")
	}
}

func TestCallersAreToldApart(t *testing.T) {
	seen := map[string]caller{}
	for _, who := range []caller{
		{},
		{admin: true},
		{name: "admin"},
		{user: "admin"},
		{user: "bearer:admin"},
		{user: "user:admin"},
		{name: "user:admin"},
		{tokenID: "admin", claims: map[string]any{}},
		{user: "token:admin"},
	} {
		if other, ok := seen[who.identity()]; ok {
			t.Errorf("%+v and %+v are %q", who, other, who.identity())
		}
		seen[who.identity()] = who
	}
}

// What the configuration, errors and logs tell of a credential.
func TestNoSecretIsTold(t *testing.T) {
	var log bytes.Buffer
	h := everyWay(t)
	a := accessOf(t, h)
	a.logger = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	secret := sign(t, "HS256", aliceClaims(gojwt.MapClaims{"exp": 1, "sub": "do-not-tell"}))
	for _, r := range []*http.Request{
		requestFor("GET", "hub.example", "", "Authorization: Bearer "+secret),
		requestFor("GET", "hub.example", "", "Authorization: Bearer do-not-tell"),
		requestFor("GET", "hub.example", "", "Cookie: session="+secret),
		requestFor("GET", "hub.example", "token="+secret),
		requestFor("GET", "hub.example", "ticket=do-not-tell"),
	} {
		_, err := a.identify(r)
		refusedWith(t, err, http.StatusUnauthorized)
		for _, told := range []string{err.Error(), log.String()} {
			if strings.Contains(told, "do-not-tell") || strings.Contains(told, secret) {
				t.Errorf("a secret is told: %s", told)
			}
		}
	}
	if !strings.Contains(log.String(), "the token is not accepted here") {
		t.Errorf("the log has %s", log.String())
	}
}

func TestCaddysAuthenticationIsKeptOverReloads(t *testing.T) {
	address := freeAddress(t)
	hash, err := bcrypt.GenerateFromPassword([]byte("hiccup"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	config := func(more string) string {
		return options("") + fmt.Sprintf("http://%s {\n\troute {\n\t\tbasic_auth {\n\t\t\talice %s\n\t\t}\n\t\tevstream {\n\t\t\tmount /live\n\t\t\tallow anyone subscribe,publish **\n%s\n\t\t}\n\t}\n}\n", address, hash, more)
	}
	load(t, config("\t\t\tcaddy_auth"))
	url := "http://" + address + "/live/a"
	login := func(r *http.Request) {
		r.SetBasicAuth("alice", "hiccup")
		r.Header.Set("Origin", "http://"+address)
	}
	s := subscribe(t, url, login)
	h := theHub(t, "default")
	user := func() string {
		l := h.list()
		if len(l) != 1 {
			t.Fatalf("%d streams", len(l))
		}
		return h.callerOf(l[0]).user
	}
	if user() != "alice" {
		t.Errorf("it is %q", user())
	}
	if err := reload(t, config("\t\t\tcaddy_auth\n\t\t\theartbeat 20s")); err != nil {
		t.Fatal(err)
	}
	mustPublish(t, url, "on", login)
	s.expect("on")
	if user() != "alice" {
		t.Errorf("after a reload it is %q", user())
	}
	// Where that is not believed any more, it is nobody.
	if err := reload(t, config("\t\t\theartbeat 20s")); err != nil {
		t.Fatal(err)
	}
	mustPublish(t, url, "still on", login)
	s.expect("still on")
	if user() != "" {
		t.Errorf("it is %q still", user())
	}
}

func TestAReloadJudgesTokensByTheKeysOfNow(t *testing.T) {
	address := freeAddress(t)
	config := func(keys ...string) string {
		block := "\t\tjwt {\n"
		for _, key := range keys {
			block += "\t\t\tkey \"" + key + "\"\n"
		}
		return site(address, "", block+"\t\t}\n\t\tallow anyone subscribe,publish **")
	}
	old, renewed := strings.Repeat("old ", 8)+"x", strings.Repeat("new ", 8)+"x"
	by := func(key string) func(*http.Request) {
		return header("Authorization", "Bearer "+signWith(t, "HS256", []byte(key), aliceClaims(nil)))
	}
	load(t, config(old))
	url := "http://" + address + "/live/a"
	before := subscribe(t, url, by(old))
	if err := reload(t, config(renewed, old)); err != nil {
		t.Fatal(err)
	}
	after := subscribe(t, url, by(renewed))
	mustPublish(t, url, "both", by(old))
	before.expect("both")
	after.expect("both")
	if err := reload(t, config(renewed)); err != nil {
		t.Fatal(err)
	}
	before.ended()
	mustPublish(t, url, "one", by(renewed))
	after.expect("one")
	if s := connect(t, url, by(old)); s.status != http.StatusUnauthorized {
		t.Errorf("the old key: %d", s.status)
	}
}

func TestTheInsecureParameterIsWarnedOf(t *testing.T) {
	var log bytes.Buffer
	a, err := newAccess(rulesOf("anyone subscribe **"), map[string]string{"b": "c"})
	if err != nil {
		t.Fatal(err)
	}
	h := &Handler{InsecureQueryToken: "token", Bearers: map[string]string{"b": "c"}}
	if err := a.open(h, nil, slog.New(slog.NewTextHandler(&log, nil))); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(log.String(), "level=WARN") || !strings.Contains(log.String(), "parameter=token") {
		t.Errorf("the log has %q", log.String())
	}
}

func TestCredentialSettingsThatAreRefused(t *testing.T) {
	for want, h := range map[string]*Handler{
		"cookie names the cookie that has a token":   {Cookie: "session"},
		`"a b" cannot name a cookie`:                 {Cookie: "a b", JWT: withKeys(jwtSecret).JWT},
		"insecure_query_token needs a bearer or jwt": {InsecureQueryToken: "token"},
		`"ticket" cannot name the parameter`:         {InsecureQueryToken: "ticket", JWT: withKeys(jwtSecret).JWT},
		`"a&b" cannot name the parameter`:            {InsecureQueryToken: "a&b", JWT: withKeys(jwtSecret).JWT},
	} {
		if _, err := openAccess(t, h); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

func TestAnUnknownCallerIsChallenged(t *testing.T) {
	e := newTestEndpoint(t, func(e *endpoint) {
		if err := e.access.open(withKeys(jwtSecret), e.hub, e.logger); err != nil {
			t.Fatal(err)
		}
	})
	for header, want := range map[string]string{
		"Accept: */*":                     "Bearer",
		"Authorization: Bearer nonsense":  `Bearer error="invalid_token"`,
		"Authorization: Bearer a.b.c":     `Bearer error="invalid_token"`,
		"Authorization: Basic bm9uc2Vuc2": "Bearer",
	} {
		r := httptest.NewRequest("GET", "http://hub.example/live/secret", nil)
		name, value, _ := strings.Cut(header, ": ")
		r.Header.Set(name, value)
		w := httptest.NewRecorder()
		if err := e.serve(w, r, nil); err != nil {
			t.Fatal(err)
		}
		if w.Code != http.StatusUnauthorized || w.Header().Get("WWW-Authenticate") != want {
			t.Errorf("%s: got %d %q", header, w.Code, w.Header().Get("WWW-Authenticate"))
		}
	}
}
