package auth

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/evstream/caddy-evstream/internal/authtest"
)

func TestKeysOfAJWKSVerify(t *testing.T) {
	encryption := authtest.JWK("ES512", "enc")
	encryption.Use = "enc"
	bound := authtest.JWK("RS256", "rsa")
	bound.Algorithm = "PS256"
	a := authOf(t, &Config{JWT: &JWT{JWKS: authtest.Serve(t, map[string]any{"keys": []any{
		authtest.JWK("ES256", "a"), bound, encryption,
		map[string]any{"kty": "oct", "k": "YSBzZWNyZXQgb2YgdGVzdHMgdGhhdCBoYXMgbm8gbGVzcyB0aGFuIDY0IGJ5dGVzLCBhcyBIUzUxMiBuZWVkcy4", "kid": "secret"},
		map[string]any{"kty": "new", "kid": "unknown"},
	}})}})
	for _, tt := range []struct {
		name, alg, kid string
		good           bool
	}{
		{"by its id", "ES256", "a", true},
		{"without an id", "ES256", "", true},
		{"the key's algorithm", "PS256", "rsa", true},
		{"another of its type", "RS256", "rsa", false},
		{"another id", "ES256", "rsa", false},
		{"a key to encrypt", "ES512", "enc", false},
		{"a secret that everybody can read", "HS512", "secret", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			header := map[string]any{}
			if tt.kid != "" {
				header["kid"] = tt.kid
			}
			who, err := a.Authenticate(requestWith(authtest.Sign(t, tt.alg, authtest.Alice(nil), header)))
			if tt.good != (err == nil) || tt.good && who.User != "alice" {
				t.Errorf("got %+v, %v", who, err)
			}
		})
	}
}

// CVE-2026-49998: keys that are cached by kid alone, where two issuers have
// the same kid. What defends is that each URL has a keySet of its own
// (keySetKey has the URL): with one cache by kid, the tokens of one issuer
// would be accepted by the handler of the other.
func TestKeysOfOneIssuerAreNotAnothers(t *testing.T) {
	sets := NewKeySets(nil, slog.New(slog.DiscardHandler))
	together := func(d *Deps) { d.KeySets = sets }
	first := authOf(t, &Config{JWT: &JWT{JWKS: authtest.Serve(t, map[string]any{"keys": []any{authtest.JWK("ES256", "1")}})}}, together)
	second := authOf(t, &Config{JWT: &JWT{JWKS: authtest.Serve(t, map[string]any{"keys": []any{authtest.JWK("EdDSA", "1")}})}}, together)
	one := authtest.Sign(t, "ES256", authtest.Alice(nil), map[string]any{"kid": "1"})
	two := authtest.Sign(t, "EdDSA", authtest.Alice(nil), map[string]any{"kid": "1"})
	for range 2 { // the second time from the cache
		for _, tt := range []struct {
			a     *Authenticator
			token string
			good  bool
		}{{first, one, true}, {second, two, true}, {first, two, false}, {second, one, false}} {
			if _, err := tt.a.Authenticate(requestWith(tt.token)); (err == nil) != tt.good {
				t.Errorf("got %v", err)
			}
		}
	}
}

// CVE-2026-32301: keys fetched from where a claim of the token says. What
// defends is that only the URL of the configuration is fetched; see also
// TestATokenBringsNoKeyOfItsOwn. And an unknown kid makes no more than one
// fetch a minute: what defends is jwksPause.
func TestKeysAreFetchedOnceAMinuteAtMost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		key := verifyKey{id: "a", key: []byte(authtest.Secret), algorithms: []jose.SignatureAlgorithm{jose.HS256}}
		fetches := 0
		s := newKeySet("https://example.com", slog.New(slog.DiscardHandler), func(context.Context) ([]verifyKey, error) {
			fetches++
			return []verifyKey{key}, nil
		})
		find := func(id string) int {
			found, _, err := s.find(t.Context(), jose.HS256, id, false)
			if err != nil {
				t.Fatal(err)
			}
			return len(found)
		}
		for i := range 1000 {
			if find(fmt.Sprint("unknown", i)) != 0 {
				t.Fatal("found")
			}
		}
		if fetches != 1 {
			t.Errorf("%d fetches at once, want 1", fetches)
		}
		time.Sleep(jwksPause - time.Second)
		find("unknown")
		if fetches != 1 {
			t.Errorf("%d fetches in a minute, want 1", fetches)
		}
		// A new key is found when the pause is over, by whoever needs it.
		key.id = "b"
		time.Sleep(time.Second)
		if find("b") != 1 || fetches != 2 {
			t.Errorf("the new key is not found after %d fetches", fetches)
		}
		// Keys that are known go on being fetched, and nobody waits for it.
		time.Sleep(jwksFresh)
		find("b")
		synctest.Wait()
		if fetches != 3 {
			t.Errorf("%d fetches, want a third for old keys", fetches)
		}
		s.close()
	})
}

func TestOldKeysAreUsedForADay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fail := false
		s := newKeySet("https://example.com", slog.New(slog.DiscardHandler), func(context.Context) ([]verifyKey, error) {
			if fail {
				return nil, errors.New("not now")
			}
			return []verifyKey{{id: "a", algorithms: []jose.SignatureAlgorithm{jose.HS256}}}, nil
		})
		defer s.close()
		find := func() error {
			found, _, err := s.find(t.Context(), jose.HS256, "a", false)
			if err == nil && len(found) == 0 {
				t.Error("not found")
			}
			return err
		}
		if err := find(); err != nil {
			t.Fatal(err)
		}
		fail = true
		time.Sleep(jwksStale - time.Minute)
		if err := find(); err != nil {
			t.Errorf("after a day without a fetch: %v", err)
		}
		time.Sleep(2 * time.Minute)
		if err := find(); !errors.Is(err, ErrNoKeys) {
			t.Errorf("after more than a day: %v", err)
		}
		fail = false
		time.Sleep(jwksPause)
		if err := find(); err != nil {
			t.Errorf("fetched again: %v", err)
		}
	})
}

func TestManyWaitForOneFetch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fetches := 0
		s := newKeySet("https://example.com", slog.New(slog.DiscardHandler), func(ctx context.Context) ([]verifyKey, error) {
			fetches++
			select {
			case <-time.After(time.Second):
			case <-ctx.Done():
				return nil, ctx.Err()
			}
			return []verifyKey{{id: "a", algorithms: []jose.SignatureAlgorithm{jose.HS256}}}, nil
		})
		// Who is asked about again after a reload waits for nobody.
		if _, _, err := s.find(t.Context(), jose.HS256, "a", true); !errors.Is(err, ErrNoKeys) {
			t.Errorf("got %v", err)
		}
		results := make(chan error, 100)
		for range cap(results) {
			go func() {
				found, _, err := s.find(t.Context(), jose.HS256, "a", false)
				if len(found) != 1 {
					err = fmt.Errorf("found %d, %w", len(found), err)
				}
				results <- err
			}()
		}
		for range cap(results) {
			if err := <-results; err != nil {
				t.Error(err)
			}
		}
		if fetches != 1 {
			t.Errorf("%d fetches", fetches)
		}
		// The end of the last configuration ends what is being fetched.
		time.Sleep(jwksFresh)
		_, _, _ = s.find(t.Context(), jose.HS256, "a", false)
		begun := time.Now()
		if s.close(); time.Since(begun) != 0 {
			t.Errorf("ended after %s", time.Since(begun))
		}
	})
}

func TestAnswersThatAreNoKeys(t *testing.T) {
	good, err := json.Marshal(map[string]any{"keys": []any{authtest.JWK("ES256", "a")}})
	if err != nil {
		t.Fatal(err)
	}
	many := strings.Repeat(`{},`, maxJWKSKeys) + `{}`
	for name, answer := range map[string]func(w http.ResponseWriter, r *http.Request){
		"not found":      func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(404); w.Write(good) },
		"a redirect":     func(w http.ResponseWriter, r *http.Request) { redirectOnce(w, r, good) },
		"no JSON":        func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("<html>")) },
		"no keys":        func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte(`{"keys":[]}`)) },
		"too many keys":  func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintf(w, `{"keys":[%s]}`, many) },
		"more than fits": func(w http.ResponseWriter, _ *http.Request) { w.Write(append(good, strings.Repeat(" ", maxJWKS)...)) },
		"broken off": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100000")
			w.Write(good)
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := httptest.NewServer(http.HandlerFunc(answer))
			defer s.Close()
			// Without a logger, errors of fetching are discarded.
			a := authOf(t, &Config{JWT: &JWT{JWKS: s.URL}}, func(d *Deps) { d.KeySets = NewKeySets(nil, nil) })
			_, err := a.Authenticate(requestWith(authtest.Sign(t, "ES256", authtest.Alice(nil))))
			// Nobody knows whether the token is good: that is no 401.
			refusedWith(t, err, http.StatusServiceUnavailable)
		})
	}
}

func redirectOnce(w http.ResponseWriter, r *http.Request, good []byte) {
	if r.URL.Path == "/there" {
		w.Write(good)
		return
	}
	http.Redirect(w, r, "/there", http.StatusFound)
}

// Handlers, and the configurations before and after a reload, share what was
// fetched; the last of them ends it.
func TestKeySetsAreSharedByTheirURL(t *testing.T) {
	var fetches atomic.Int32
	body, err := json.Marshal(map[string]any{"keys": []any{authtest.JWK("ES256", "a")}})
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fetches.Add(1)
		w.Write(body)
	}))
	defer s.Close()
	sets := NewKeySets(nil, slog.New(slog.DiscardHandler))
	open := func(c *JWT) *Authenticator {
		t.Helper()
		return authOf(t, &Config{JWT: c}, func(d *Deps) { d.KeySets = sets })
	}
	token := requestWith(authtest.Sign(t, "ES256", authtest.Alice(nil)))
	first, second := open(&JWT{JWKS: s.URL}), open(&JWT{JWKS: s.URL, Leeway: time.Second})
	for _, a := range []*Authenticator{first, second} {
		if _, err := a.Authenticate(token); err != nil {
			t.Fatal(err)
		}
	}
	// What may lead to private addresses is apart.
	private := open(&JWT{JWKS: s.URL, AllowPrivate: true})
	if _, err := private.Authenticate(token); err != nil {
		t.Fatal(err)
	}
	if n := fetches.Load(); n != 2 {
		t.Errorf("%d fetches, want 2", n)
	}
	first.Close()
	first.Close() // more than once is once
	if _, err := second.Authenticate(token); err != nil || len(sets.sets) != 2 {
		t.Errorf("after the first is closed there are %d, %v", len(sets.sets), err)
	}
	second.Close()
	private.Close()
	if len(sets.sets) != 0 {
		t.Errorf("%d sets of keys are held still", len(sets.sets))
	}
}
