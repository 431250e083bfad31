package auth

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/evstream/caddy-evstream/access"
	"github.com/evstream/caddy-evstream/internal/authtest"
)

// remembers reports whether a keeps what it knows of a token, and fails the test unless
// the token is accepted, twice.
func remembers(t *testing.T, a *Authenticator, token string) bool {
	t.Helper()
	first, err := a.Authenticate(requestWith(token))
	if err != nil {
		t.Fatal(err)
	}
	again, err := a.Authenticate(requestWith(token))
	if err != nil {
		t.Fatal(err)
	}
	return first == again
}

// revokedNow is a Revocations of whom a function says is revoked.
type revokedNow struct{ is func(*access.Caller) bool }

func (r *revokedNow) MayEnter(who *access.Caller, _ time.Time) error {
	if r.is != nil && r.is(who) {
		return access.ErrRevoked
	}
	return nil
}

// A token that was accepted, and is revoked: the next request is refused. What defends is
// that authenticate asks Revocations for each request, wherever the Caller is from.
func TestARememberedTokenIsRevokedAtOnce(t *testing.T) {
	digest := func(token string) string {
		return fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(token[:strings.LastIndexByte(token, '.')])))
	}
	withID := authtest.Sign(t, "HS256", authtest.Alice(authtest.Claims{"jti": "17"}))
	without := authtest.Sign(t, "HS256", authtest.Alice(nil))
	for _, tt := range []struct {
		name, token string
		is          func(*access.Caller) bool
	}{
		{"by its id", withID, func(who *access.Caller) bool { return who.TokenID == "17" }},
		{"by its digest", without, func(who *access.Caller) bool { return who.TokenID == digest(without) }},
		{"by its user", without, func(who *access.Caller) bool { return who.User == "alice" }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			revoked := new(revokedNow)
			a := authOf(t, withKeys(authtest.Secret), func(d *Deps) { d.Revocations = revoked })
			if !remembers(t, a, tt.token) {
				t.Fatal("it is not remembered")
			}
			revoked.is = tt.is
			_, err := a.Authenticate(requestWith(tt.token))
			refusedWith(t, err, http.StatusUnauthorized)
			revoked.is = nil
			if !remembers(t, a, tt.token) {
				t.Error("it is not remembered any more")
			}
		})
	}
}

// What defends is that check looks at the clock at each use, and not when the token is
// verified.
func TestARememberedTokenExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := withKeys(authtest.Secret)
		c.JWT.Leeway = 20 * time.Second
		a := authOf(t, c)
		exp := time.Now().Add(10 * time.Second)
		token := authtest.Sign(t, "HS256", authtest.Alice(authtest.Claims{"exp": exp.Unix(), "iat": time.Now().Unix()}))
		if !remembers(t, a, token) {
			t.Fatal("it is not remembered")
		}
		for _, tt := range []struct {
			wait, expires time.Duration
		}{{5 * time.Second, 0}, {5 * time.Second, c.JWT.Leeway}, {19 * time.Second, c.JWT.Leeway}} {
			time.Sleep(tt.wait)
			who, err := a.Authenticate(requestWith(token))
			if err != nil {
				t.Fatalf("%s after it has expired: %v", time.Since(exp), err)
			}
			if want := exp.Add(tt.expires); !who.Expires.Equal(want) {
				t.Errorf("%s after it has expired it expires at %s, want %s", time.Since(exp), who.Expires, want)
			}
		}
		time.Sleep(time.Second)
		if a.tokens.cache.get(sha256.Sum256([]byte(token)), time.Now()) == nil {
			t.Error("it is forgotten, so that the clock is not what refuses it")
		}
		_, err := a.Authenticate(requestWith(token))
		refusedWith(t, err, http.StatusUnauthorized)
		if !strings.Contains(err.Error(), access.ErrExpired.Error()) {
			t.Errorf("got %v", err)
		}
	})
}

// A token that comes too early is refused, and nothing is remembered of it.
func TestATokenThatCameTooEarlyIsAcceptedLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := authOf(t, withKeys(authtest.Secret))
		start := time.Now()
		token := authtest.Sign(t, "HS256", authtest.Alice(authtest.Claims{"nbf": start.Add(time.Minute).Unix(), "exp": start.Add(time.Hour).Unix()}))
		_, err := a.Authenticate(requestWith(token))
		refusedWith(t, err, http.StatusUnauthorized)
		time.Sleep(time.Minute)
		if !remembers(t, a, token) {
			t.Error("it is not remembered")
		}
	})
}

// withKeySet accepts tokens of a set of keys.
func withKeySet(t *testing.T, fetch func(context.Context) ([]verifyKey, error)) *Authenticator {
	set := newKeySet("https://example.com", slog.New(slog.DiscardHandler), fetch)
	t.Cleanup(set.close)
	return &Authenticator{
		tokens: &tokens{set: set, allowed: algorithmNames, claim: "sub", cache: newTokenCache()},
		deps:   Deps{Logger: slog.New(slog.DiscardHandler)},
	}
}

// What defends is that a token is remembered with the version of the keys, and that one
// that is has these fetched, too.
func TestARememberedTokenEndsWithItsKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		key := verifyKey{key: []byte(authtest.Secret), algorithms: []jose.SignatureAlgorithm{jose.HS256}}
		a := withKeySet(t, func(context.Context) ([]verifyKey, error) {
			time.Sleep(time.Second)
			return []verifyKey{key}, nil
		})
		token := authtest.Sign(t, "HS256", authtest.Alice(authtest.Claims{"exp": time.Now().Add(time.Hour).Unix()}))
		if !remembers(t, a, token) {
			t.Fatal("it is not remembered")
		}
		time.Sleep(jwksFresh - verifiedFor/2)
		if !remembers(t, a, token) {
			t.Fatal("it is not remembered the second time")
		}
		key.key = []byte("another " + authtest.Secret)
		time.Sleep(verifiedFor / 4)
		if !remembers(t, a, token) {
			t.Fatal("the keys are not fetched yet, and it is not remembered")
		}
		time.Sleep(verifiedFor / 4)
		if !remembers(t, a, token) { // it has the keys fetched, and does not wait for them
			t.Fatal("the keys are being fetched, and it is not remembered")
		}
		time.Sleep(time.Second)
		synctest.Wait()
		for _, offline := range []bool{false, true} {
			if who, err := a.tokens.verify(t.Context(), token, time.Now(), offline); !errors.Is(err, errToken) {
				t.Errorf("offline %v: the key is gone, and the token is of %+v, %v", offline, who, err)
			}
		}
	})
}

// Keys that cannot be fetched any more are used for a day, also for what is remembered.
// What defends is that inUse knows no version of keys that are too old.
func TestARememberedTokenEndsWithKeysThatAreTooOld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fetched := false
		a := withKeySet(t, func(context.Context) ([]verifyKey, error) {
			if fetched {
				return nil, errors.New("out of reach")
			}
			fetched = true
			return []verifyKey{{key: []byte(authtest.Secret), algorithms: []jose.SignatureAlgorithm{jose.HS256}}}, nil
		})
		token := authtest.Sign(t, "HS256", authtest.Alice(authtest.Claims{"exp": time.Now().Add(48 * time.Hour).Unix()}))
		if !remembers(t, a, token) {
			t.Fatal("it is not remembered")
		}
		time.Sleep(jwksStale - verifiedFor/2)
		if !remembers(t, a, token) {
			t.Fatal("it is not remembered although its keys may be used")
		}
		time.Sleep(verifiedFor / 4)
		if !remembers(t, a, token) {
			t.Fatal("it is not remembered any more")
		}
		time.Sleep(verifiedFor / 4)
		for _, offline := range []bool{false, true} {
			if _, err := a.tokens.verify(t.Context(), token, time.Now(), offline); !errors.Is(err, ErrNoKeys) {
				t.Errorf("offline %v: got %v", offline, err)
			}
		}
	})
}

// Whoever knows what a remembered token says, and not its signature, gets nothing; and
// what is remembered knows no other spelling. What defends is that all bytes of a token
// are in its digest.
func TestOnlyTheVeryTokenIsRemembered(t *testing.T) {
	a := authOf(t, withKeys(authtest.Secret))
	token := authtest.Sign(t, "HS256", authtest.Alice(nil))
	if !remembers(t, a, token) {
		t.Fatal("it is not remembered")
	}
	signed := token[:strings.LastIndexByte(token, '.')]
	for name, other := range map[string]string{
		"no signature":           signed + ".",
		"no last part":           signed,
		"another's signature":    signed + token[strings.LastIndexByte(token, '.'):len(token)-4] + "AAAA",
		"a line break":           token[:10] + "\n" + token[10:],
		"padding":                token + "=",
		"its end is missing":     token[:len(token)-1],
		"more after it":          token + "A",
		"a part too many":        token + ".",
		"the last bits":          token[:len(token)-1] + string("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"[strings.IndexByte("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_", token[len(token)-1])^1]),
		"a prefix that is equal": token[:len(token)/2],
		"a NUL after it":         token + "\x00",
		"of maxToken bytes":      token + strings.Repeat("A", maxToken-len(token)),
		"more than maxToken":     token + strings.Repeat("A", 1<<20),
	} {
		t.Run(name, func(t *testing.T) {
			_, err := a.tokens.verify(t.Context(), other, time.Now(), false)
			if !errors.Is(err, errToken) {
				t.Errorf("got %v", err)
			}
		})
	}
	if n := a.tokens.cache.entries.Len(); n != 1 {
		t.Errorf("%d tokens are remembered, want the one that was accepted", n)
	}
}

// A token that a browser sends unasked, and a page that has it sends in a header. What
// defends is that byCookie changes a copy: else the header's caller would need the
// proof of origin that a cookie's does, or, the other way round, the cookie's none.
func TestWhatIsRememberedIsNotChanged(t *testing.T) {
	c := withKeys(authtest.Secret)
	c.Cookie = "session"
	a := authOf(t, c)
	token := authtest.Sign(t, "HS256", authtest.Alice(nil))
	cookie := requestFor("GET", "example.com", "", "Cookie: session="+token)
	var work sync.WaitGroup
	for range 4 {
		work.Go(func() {
			for range 20 {
				who, err := a.Authenticate(requestWith(token))
				if err != nil || who.Ambient {
					t.Errorf("by the header: %+v, %v", who, err)
				}
				if who, err = a.Authenticate(cookie); err != nil || !who.Ambient {
					t.Errorf("by the cookie: %+v, %v", who, err)
				}
			}
		})
	}
	work.Wait()
}

// What defends is the share of each caller.
func TestOneCallersTokensLeaveThoseOfOthers(t *testing.T) {
	a := authOf(t, withKeys(authtest.Secret))
	alices := authtest.Sign(t, "HS256", authtest.Alice(nil))
	if !remembers(t, a, alices) {
		t.Fatal("it is not remembered")
	}
	who, err := a.Authenticate(requestWith(alices))
	if err != nil {
		t.Fatal(err)
	}
	for i := range 2 * maxVerifiedOfOne {
		if !remembers(t, a, authtest.Sign(t, "HS256", authtest.Alice(authtest.Claims{"sub": "mallory", "jti": fmt.Sprint(i)}))) {
			t.Fatal("a new token is not remembered")
		}
	}
	if again, err := a.Authenticate(requestWith(alices)); err != nil || again != who {
		t.Errorf("another has pushed it out: %v", err)
	}
	if n := a.tokens.cache.entries.LenOf("user:mallory"); n != maxVerifiedOfOne {
		t.Errorf("%d of one caller, want %d", n, maxVerifiedOfOne)
	}
}

// What defends is maxVerified, and that what is not used gives way in a minute.
func TestRememberedTokensAreBounded(t *testing.T) {
	c := newTokenCache()
	now := time.Now()
	key := func(i int) (digest [sha256.Size]byte) {
		digest[0], digest[1] = byte(i), byte(i>>8)
		return digest
	}
	add := func(i int, now time.Time) bool {
		c.set(key(i), &verified{who: &access.Caller{User: fmt.Sprint(i)}}, now)
		return c.get(key(i), now) != nil
	}
	for i := range maxVerified + 1000 {
		if got := add(i, now); got != (i < maxVerified) {
			t.Fatalf("token %d is remembered: %v", i, got)
		}
	}
	if n := c.entries.Len(); n != maxVerified {
		t.Errorf("%d are remembered, want %d", n, maxVerified)
	}
	if !add(maxVerified, now.Add(verifiedFor)) || c.entries.Len() != 1 {
		t.Error("those of a minute ago take the room of others")
	}
}

// What defends is maxVerifiedSize: of 8 KiB text, a token of nothing but small values
// takes fifty times as much memory.
func TestLargeClaimsAreNotRemembered(t *testing.T) {
	a := authOf(t, withKeys(authtest.Secret))
	for _, tt := range []struct {
		name  string
		claim any
		want  bool
	}{
		{"the roles of an employee", strings.Split(strings.Repeat("a-role-of-an-employee ", 60), " "), true},
		{"a long text", strings.Repeat("a", 5000), true},
		{"many small values", strings.Split(strings.Repeat(" ", 1000), " "), false},
		{"many small objects", make([]struct{}, 1000), false},
		{"deep", deep(200), false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			token := authtest.Sign(t, "HS256", authtest.Alice(authtest.Claims{"extra": tt.claim}))
			if got := remembers(t, a, token); got != tt.want {
				t.Errorf("of %d bytes: %v", len(token), got)
			}
		})
	}
}

// deep is an array in an array, and so on.
func deep(n int) any {
	if n == 0 {
		return []any{}
	}
	return []any{deep(n - 1)}
}

// BenchmarkToken is what finding out who sends a token costs: verified each time, as
// without a cache, and remembered. digest is what remembering costs a token that is
// refused, or is seen once.
func BenchmarkToken(b *testing.B) {
	verify := func(b *testing.B, a *Authenticator, token string) {
		b.ReportAllocs()
		now := time.Now()
		for b.Loop() {
			if _, err := a.tokens.verify(b.Context(), token, now, false); err != nil {
				b.Fatal(err)
			}
		}
	}
	for _, alg := range []string{"HS256", "RS256", "ES256", "EdDSA"} {
		key := authtest.Secret
		if alg != "HS256" {
			key = authtest.PublicPEM(b, alg)
		}
		token := authtest.Sign(b, alg, authtest.Alice(authtest.Claims{"jti": "17", "evstream": map[string]any{"publish": []string{"orders/**"}}}))
		b.Run(alg+"/verified", func(b *testing.B) {
			a := authOf(b, withKeys(key))
			a.tokens.cache = new(tokenCache)
			verify(b, a, token)
		})
		b.Run(alg+"/remembered", func(b *testing.B) { verify(b, authOf(b, withKeys(key)), token) })
	}
	for _, size := range []int{300, 1 << 10, maxToken} {
		token := strings.Repeat("a", size)
		b.Run(fmt.Sprintf("digest/bytes=%d", size), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				_ = sha256.Sum256([]byte(token))
			}
		})
	}
}
