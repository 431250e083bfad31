package evstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/go-jose/go-jose/v4"
)

// How the keys of a URL are kept.
const (
	jwksTimeout = 5 * time.Second
	jwksPause   = time.Minute      // between two fetches, whatever tokens ask for
	jwksFresh   = 10 * time.Minute // after it they are fetched again, while they go on
	jwksStale   = 24 * time.Hour   // after it they are not used any more
	maxJWKS     = 64 << 10         // bytes
	maxJWKSKeys = 64
)

// keySets holds the keySet of each URL, by keySetKey. Each handler that names
// it holds a reference, so that keys live over reloads, which wait for nobody.
var keySets = caddy.NewUsagePool()

// keySetKey is what decides about keys: where they come from, and which
// addresses that may be. A key's id alone does not tell: two issuers may give
// the same.
type keySetKey struct {
	url     string
	private bool
}

// keySet is the keys of a URL. They are fetched when they are needed, once a
// minute at most; what was fetched is used for a day if no more can be.
type keySet struct {
	fetch func(context.Context) ([]verifyKey, error)
	url   string
	ctx   context.Context // ends with the last reference
	stop  context.CancelFunc
	work  sync.WaitGroup

	mu      sync.Mutex // guards what follows
	keys    []verifyKey
	fetched time.Time     // when keys were
	tried   time.Time     // when a fetch began last
	running chan struct{} // closed when the fetch that runs has ended; nil: none
}

// errNoKeys is the error where tokens cannot be judged.
var errNoKeys = errors.New("the keys that tokens are verified with could not be fetched")

func newKeySet(url string, fetch func(context.Context) ([]verifyKey, error)) *keySet {
	s := &keySet{url: url, fetch: fetch}
	s.ctx, s.stop = context.WithCancel(context.Background())
	return s
}

// openKeySet takes a reference to the keys of a URL.
func openKeySet(key keySetKey) (*keySet, error) {
	value, _, err := keySets.LoadOrNew(key, func() (caddy.Destructor, error) {
		out, err := newOutgoing(key.url, key.private, jwksTimeout)
		if err != nil {
			return nil, err
		}
		return newKeySet(key.url, func(ctx context.Context) ([]verifyKey, error) { return fetchKeys(ctx, out) }), nil
	})
	if err != nil {
		return nil, err
	}
	return value.(*keySet), nil
}

// source names the set, whichever of its keys has verified a token.
func (s *keySet) source() string { return "jwks " + s.url }

// Destruct implements caddy.Destructor.
func (s *keySet) Destruct() error {
	s.stop()
	s.work.Wait()
	return nil
}

// find returns the keys that may verify a token. An unknown key id may be that
// of a new key: it waits for a fetch, if one is due, and not offline.
func (s *keySet) find(ctx context.Context, algorithm jose.SignatureAlgorithm, id string, offline bool) ([]verifyKey, error) {
	for first := true; ; first = false {
		found, known, fetching := s.look(algorithm, id, time.Now())
		switch {
		case len(found) > 0:
			return found, nil
		case fetching == nil || offline || !first:
			if !known {
				return nil, errNoKeys
			}
			return nil, nil
		}
		select {
		case <-fetching:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// look returns the keys that fit, whether any are known, and what to wait for
// if there may be others soon.
func (s *keySet) look(algorithm jose.SignatureAlgorithm, id string, now time.Time) (found []verifyKey, known bool, fetching <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	known = s.keys != nil && now.Sub(s.fetched) < jwksStale
	if known {
		for i := range s.keys {
			if s.keys[i].fits(algorithm, id) {
				found = append(found, s.keys[i])
			}
		}
	}
	if len(found) == 0 || now.Sub(s.fetched) >= jwksFresh {
		fetching = s.begin(now)
	}
	return found, known, fetching
}

// begin begins a fetch, unless one runs or was begun less than a minute ago.
// keySet.mu is held.
func (s *keySet) begin(now time.Time) <-chan struct{} {
	if s.running != nil {
		return s.running
	}
	if !s.tried.IsZero() && now.Sub(s.tried) < jwksPause || s.ctx.Err() != nil {
		return nil
	}
	done := make(chan struct{})
	s.tried, s.running = now, done
	s.work.Go(func() {
		keys, err := s.fetch(s.ctx)
		s.mu.Lock()
		defer s.mu.Unlock()
		defer close(done)
		s.running = nil
		if err != nil {
			logger.Error("fetching keys", slog.String("url", s.url), slog.Any("error", err))
			return
		}
		s.keys, s.fetched = keys, time.Now()
	})
	return done
}

// fetchKeys reads a JSON Web Key Set.
func fetchKeys(ctx context.Context, out *outgoing) ([]verifyKey, error) {
	r, err := out.request(ctx)
	if err != nil {
		return nil, err
	}
	r.Header.Set("Accept", "application/jwk-set+json, application/json")
	resp, err := out.client.Do(r)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	defer out.idle() // it is a minute at least until the next
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the answer is %s", resp.Status)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxJWKS+1))
	if err != nil {
		return nil, fmt.Errorf("reading the keys: %w", err)
	}
	if len(body) > maxJWKS {
		return nil, fmt.Errorf("the answer has more than %d bytes", maxJWKS)
	}
	return readKeySet(body)
}

// readKeySet takes from a set what can verify tokens. Other keys are passed
// over, as RFC 7517 asks; secrets are, because whoever reads the set knows them.
func readKeySet(body []byte) ([]verifyKey, error) {
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(body, &set); err != nil {
		return nil, fmt.Errorf("reading the keys: %w", err)
	}
	if len(set.Keys) > maxJWKSKeys {
		return nil, fmt.Errorf("there are %d keys, at most %d are accepted", len(set.Keys), maxJWKSKeys)
	}
	var keys []verifyKey
	for _, raw := range set.Keys {
		var key jose.JSONWebKey
		if key.UnmarshalJSON(raw) != nil || !key.IsPublic() || key.Use != "" && key.Use != "sig" {
			continue
		}
		algorithms, err := algorithmsOf(key.Key)
		if err != nil {
			continue
		}
		if key.Algorithm != "" {
			if !slices.Contains(algorithms, jose.SignatureAlgorithm(key.Algorithm)) {
				continue
			}
			algorithms = []jose.SignatureAlgorithm{jose.SignatureAlgorithm(key.Algorithm)}
		}
		keys = append(keys, verifyKey{id: key.KeyID, key: key.Key, algorithms: algorithms})
	}
	if keys == nil {
		return nil, fmt.Errorf("of %d keys none can verify a token", len(set.Keys))
	}
	return keys, nil
}

// Interface guard
var _ caddy.Destructor = (*keySet)(nil)
