package auth

import (
	"bytes"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/evstream/caddy-evstream/access"
	"github.com/evstream/caddy-evstream/internal/authtest"
	"github.com/evstream/caddy-evstream/problem"
)

func TestTheFirstCredentialDecides(t *testing.T) {
	a := authOf(t, everyWay(t))
	token := func(user string) string {
		return authtest.Sign(t, "HS256", authtest.Alice(authtest.Claims{"sub": user}))
	}
	made := requestFor("POST", "hub.example", "", "Authorization: Bearer "+token("ticket's"))
	maker, err := a.AuthenticateStream(asOuter(made, ""))
	if err != nil {
		t.Fatal(err)
	}
	ticket := sealFor(t, a, maker, made)
	expired := authtest.Sign(t, "HS256", authtest.Alice(authtest.Claims{"exp": 1}))
	const bearer, cookie, parameter = "Authorization: Bearer ", "Cookie: session=", "token="
	for _, tt := range []struct {
		name    string
		header  []string
		query   string
		outer   string
		want    string // user, or "401", "400"
		ambient bool
	}{
		{"all of them", []string{bearer + token("header's"), cookie + token("cookie's")}, parameter + token("query's") + "&ticket=" + ticket, "outer's", "header's", false},
		{"no header", []string{cookie + token("cookie's")}, parameter + token("query's") + "&ticket=" + ticket, "outer's", "cookie's", true},
		{"no cookie", nil, parameter + token("query's") + "&ticket=" + ticket, "outer's", "query's", false},
		{"no parameter", nil, "ticket=" + ticket, "outer's", "ticket's", false},
		{"no ticket", nil, "", "outer's", "outer's", true},
		{"nothing but the application", nil, "", "", "application's", true},
		{"a bearer in the query", nil, parameter + backendSecret, "", "", false},

		{"an expired header", []string{bearer + expired, cookie + token("cookie's")}, "", "outer's", "401", false},
		{"a wrong header", []string{bearer + "nonsense", cookie + token("cookie's")}, "", "outer's", "401", false},
		{"an expired cookie", []string{cookie + expired}, parameter + token("query's"), "", "401", false},
		{"a bearer's secret in a cookie", []string{cookie + backendSecret}, "", "", "401", false},
		{"a wrong parameter", nil, parameter + "nonsense&ticket=" + ticket, "", "401", false},
		{"an empty parameter", nil, parameter + "&ticket=" + ticket, "", "401", false},
		{"a wrong ticket", nil, "ticket=x", "outer's", "401", false},
		{"two cookies", []string{cookie + token("cookie's") + "; session=" + token("cookie's")}, "", "", "401", false},
		{"two parameters", nil, parameter + token("a") + "&" + parameter + token("b"), "", "400", false},
		{"two tickets", nil, "ticket=" + ticket + "&ticket=" + ticket, "", "400", false},

		{"an empty cookie, after logging out", []string{cookie}, "", "outer's", "outer's", true},
		{"another app's cookies", []string{"Cookie: other=x; sessions=y; Session=z"}, "", "outer's", "outer's", true},
		{"another scheme, which a handler in front has read", []string{"Authorization: Basic YTpi"}, "", "outer's", "outer's", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			who, err := a.AuthenticateStream(asOuter(requestFor("GET", "hub.example", tt.query, tt.header...), tt.outer))
			switch tt.want {
			case "401":
				refusedWith(t, err, http.StatusUnauthorized)
				return
			case "400":
				refusedWith(t, err, http.StatusBadRequest)
				return
			}
			if err != nil || who.User != tt.want || who.Ambient != tt.ambient {
				t.Errorf("got %+v, %v", who, err)
			}
		})
	}
}

func TestNothingIsACredentialUnlessThatIsConfigured(t *testing.T) {
	token := authtest.Sign(t, "HS256", authtest.Alice(nil))
	r := asOuter(requestFor("GET", "hub.example", "token="+token+"&ticket=x&access_token="+token,
		"Authorization: Bearer "+token, "Cookie: session="+token), "outer's")
	who, err := authOf(t, new(Config)).AuthenticateStream(r)
	if err != nil || !who.Anonymous() {
		t.Errorf("got %+v, %v", who, err)
	}
	if new(Config).Any() || !everyWay(t).Any() {
		t.Error("it is not told whether credentials are asked for")
	}
}

// What the configuration, errors and logs tell of a credential.
func TestNoSecretIsTold(t *testing.T) {
	var log bytes.Buffer
	a := authOf(t, everyWay(t), func(d *Deps) {
		d.Logger = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	})
	secret := authtest.Sign(t, "HS256", authtest.Alice(authtest.Claims{"exp": 1, "sub": "do-not-tell"}))
	for _, r := range []*http.Request{
		requestFor("GET", "hub.example", "", "Authorization: Bearer "+secret),
		requestFor("GET", "hub.example", "", "Authorization: Bearer do-not-tell"),
		requestFor("GET", "hub.example", "", "Cookie: session="+secret),
		requestFor("GET", "hub.example", "token="+secret),
		requestFor("GET", "hub.example", "ticket=do-not-tell"),
	} {
		_, err := a.AuthenticateStream(r)
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

func TestTheInsecureParameterIsWarnedOf(t *testing.T) {
	var log bytes.Buffer
	authOf(t, &Config{QueryParameter: "token", Bearers: map[string]string{"b": "c"}}, func(d *Deps) {
		d.Logger = slog.New(slog.NewTextHandler(&log, nil))
	})
	if !strings.Contains(log.String(), "level=WARN") || !strings.Contains(log.String(), "parameter=token") {
		t.Errorf("the log has %q", log.String())
	}
}

func TestAShortSecretIsWarnedOf(t *testing.T) {
	var log bytes.Buffer
	authOf(t, &Config{Bearers: map[string]string{"short": "fifteen bytes..", "long": "sixteen bytes..."}}, func(d *Deps) {
		d.Logger = slog.New(slog.NewTextHandler(&log, nil))
	})
	if got := log.String(); strings.Count(got, "level=WARN") != 1 || !strings.Contains(got, "bearer=short bytes=15") || strings.Contains(got, "fifteen") {
		t.Errorf("the log has %q", got)
	}
}

func TestCredentialSettingsThatAreRefused(t *testing.T) {
	for want, h := range map[string]*Config{
		"cookie names the cookie that has a token":   {Cookie: "session"},
		`"a b" cannot name a cookie`:                 {Cookie: "a b", JWT: withKeys(authtest.Secret).JWT},
		"insecure_query_token needs a bearer or jwt": {QueryParameter: "token"},
		`"ticket" cannot name the parameter`:         {QueryParameter: "ticket", JWT: withKeys(authtest.Secret).JWT},
		`"a&b" cannot name the parameter`:            {QueryParameter: "a&b", JWT: withKeys(authtest.Secret).JWT},
	} {
		if err := h.Check([]string{"channel", "ticket"}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
		if _, err := openAuth(t, h); h.QueryParameter != "ticket" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("opening it: got %v, want %q", err, want)
		}
	}
}

func TestIdentify(t *testing.T) {
	a := authOf(t, &Config{Bearers: map[string]string{"backend": "s3cret", "guest": "guest-s3cret"}})
	for _, tt := range []struct {
		name   string
		header []string
		want   string // a name, "" for nobody, "401"
	}{
		{"nothing", nil, ""},
		{"a bearer", []string{"Bearer s3cret"}, "backend"},
		{"another", []string{"Bearer guest-s3cret"}, "guest"},
		{"the scheme ignores case", []string{"bearer s3cret"}, "backend"},
		{"spaces around", []string{"Bearer  s3cret "}, "backend"},
		{"a wrong one", []string{"Bearer s3cre"}, "401"},
		{"longer", []string{"Bearer s3crets"}, "401"},
		{"another case", []string{"Bearer S3CRET"}, "401"},
		{"an empty one", []string{"Bearer "}, "401"},
		{"none", []string{"Bearer"}, "401"},
		{"two", []string{"Bearer s3cret", "Bearer s3cret"}, "401"},
		{"another scheme", []string{"Basic czNjcmV0"}, "401"},
		{"a scheme that there is not", []string{"Baerer s3cret"}, "401"},
		{"no scheme", []string{"s3cret"}, "401"},
		{"a scheme alone", []string{"Basic"}, "401"},
		{"a space before", []string{" Bearer s3cret"}, "401"},
		{"a tab between", []string{"Bearer\ts3cret"}, "401"},
		{"an empty header", []string{""}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := httptest.NewRequest("GET", "/", nil)
			r.Header["Authorization"] = tt.header
			who, err := a.AuthenticateStream(r)
			if tt.want == "401" {
				if err == nil || problem.Of(err).Status() != http.StatusUnauthorized {
					t.Fatalf("got %v, %v", who, err)
				}
				if strings.Contains(strings.ToLower(err.Error()), "s3cre") {
					t.Errorf("%v tells a secret", err)
				}
				return
			}
			if err != nil || who.Name != tt.want || who.Admin {
				t.Errorf("got %+v, %v", who, err)
			}
		})
	}
}

func TestABearerMeansNothingWhereNoneIsConfigured(t *testing.T) {
	a := authOf(t, new(Config))
	r := httptest.NewRequest("GET", "/", nil)
	r.Header.Set("Authorization", "Bearer of somebody in front")
	if who, err := a.AuthenticateStream(r); err != nil || who.Name != "" {
		t.Errorf("got %+v, %v", who, err)
	}
}

func TestBearersThatAreRefused(t *testing.T) {
	for _, tt := range []struct {
		name    string
		bearers map[string]string
		want    string
	}{
		{"an empty secret", map[string]string{"b": ""}, `the secret of bearer "b" is empty`},
		{"a secret with a newline", map[string]string{"b": "x\n"}, "white space"},
		{"two with one secret", map[string]string{"a": "topsecret", "b": "topsecret"}, `"a" and "b" have the same secret`},
		{"a bearer called anyone", map[string]string{"anyone": "x"}, "a meaning of its own"},
		{"a bearer called user", map[string]string{"user": "x"}, "a meaning of its own"},
		{"a bearer called claim", map[string]string{"claim": "x"}, "a meaning of its own"},
		{"a bearer without a name", map[string]string{"": "x"}, "cannot name a bearer"},
		{"a bearer with the name of a matcher", map[string]string{"@office": "x"}, "cannot name a bearer"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := openAuth(t, &Config{Bearers: tt.bearers})
			for _, err := range []error{err, CheckBearers(tt.bearers)} {
				if err == nil || !strings.Contains(err.Error(), tt.want) {
					t.Errorf("got %v, want %q", err, tt.want)
				}
				if err != nil && strings.Contains(err.Error(), "topsecret") {
					t.Errorf("%v tells a secret", err)
				}
			}
		})
	}
}

func TestRulesThatCouldNeverHoldAreRefused(t *testing.T) {
	everybody := access.Rule{Who: access.Anyone, Do: []string{"all"}, Channels: []string{"**"}}
	user := access.Rule{Who: access.AnyUser, Do: []string{"all"}, Channels: []string{"**"}}
	theirs := access.Rule{Who: access.Anyone, Do: []string{"all"}, Channels: []string{"users/{user}"}}
	claim := access.Rule{Who: access.HasClaim, Claim: "role", Value: "admin", Do: []string{"all"}, Channels: []string{"**"}}
	claims := access.Rule{Who: access.Anyone, Do: []string{"all"}, Channels: []string{"org/{claims.org}"}}
	const noUser, noClaims = "nobody is a user here", "nobody has claims here"
	for _, tt := range []struct {
		name        string
		config      *Config
		user, claim string // what is said of rules about users and claims, "" for nothing
	}{
		{"bearers", &Config{Bearers: map[string]string{"b": "c"}}, noUser, noClaims},
		{"a handler in front", &Config{Outer: outerUser}, "", noClaims},
		{"tokens", withKeys(authtest.Secret), "", ""},
		{"an application", &Config{Verify: &Verify{URL: "http://localhost/"}}, "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for rule, want := range map[*access.Rule]string{&everybody: "", &user: tt.user, &theirs: tt.user, &claim: tt.claim, &claims: tt.claim} {
				err := tt.config.CheckRule(rule)
				if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
					t.Errorf("%s: got %v, want %q", rule, err, want)
				}
			}
		})
	}
}

// revocations records who it is asked about.
type revocations struct {
	asked []*access.Caller
	err   error
}

func (r *revocations) MayEnter(who *access.Caller, _ time.Time) error {
	r.asked = append(r.asked, who)
	return r.err
}

// Whoever a credential names is let in or not; whoever sends none is not asked
// about.
func TestRevocationsDecideWhoIsLetIn(t *testing.T) {
	rv := new(revocations)
	a := authOf(t, everyWay(t), func(d *Deps) { d.Revocations = rv })
	requests := []*http.Request{
		requestWith(backendSecret),
		requestWith(authtest.Sign(t, "HS256", authtest.Alice(nil))),
		asOuter(requestFor("GET", "hub.example", ""), "carol"),
		requestFor("GET", "hub.example", ""), // whom the application names
	}
	for i, r := range requests {
		if who, err := a.AuthenticateStream(r); err != nil || len(rv.asked) != i+1 || rv.asked[i] != who {
			t.Fatalf("request %d: %+v, %v, asked about %v", i, who, err, rv.asked)
		}
	}
	for _, r := range requests {
		for status, err := range map[int]error{http.StatusUnauthorized: access.ErrRevoked, http.StatusServiceUnavailable: ErrNoAnswer} {
			rv.err = err
			_, err := a.AuthenticateStream(r)
			refusedWith(t, err, status)
		}
	}
	if who, err := authOf(t, ticketed(), func(d *Deps) { d.Revocations = rv }).AuthenticateStream(requestFor("GET", "hub.example", "")); err != nil || !who.Anonymous() {
		t.Errorf("without a credential: %+v, %v", who, err)
	}
}
