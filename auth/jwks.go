package auth

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/evstream/caddy-evstream/internal/errkind"
	"github.com/evstream/caddy-evstream/internal/safehttp"
)

// How the keys of a URL are kept.
const (
	jwksTimeout = 5 * time.Second
	jwksPause   = time.Minute      // between two fetches, whatever tokens ask for
	jwksFresh   = 10 * time.Minute // after it they are fetched again, and used meanwhile
	jwksStale   = 24 * time.Hour   // after it they are not used any more
	maxJWKS     = 64 << 10         // bytes
	maxJWKSKeys = 64
)

// KeySets has the keys of JWKS URLs for all Authenticators that share it. The keys
// of a URL are there as long as one that is open uses them, so a reload need not
// fetch them again. It is safe for concurrent use.
type KeySets struct {
	forbid func(netip.AddrPort) error
	logger *slog.Logger

	mu   sync.Mutex // guards sets, and the number of references of each
	sets map[keySetKey]*keySet
}

// keySetKey identifies a set of keys: where they come from, and which addresses that
// may be. The id of a key does not: two issuers may use the same.
type keySetKey struct {
	url     string
	private bool
}

// NewKeySets returns an empty KeySets. forbid is as in Deps. logger gets the errors
// of fetching; nil discards them.
func NewKeySets(forbid func(netip.AddrPort) error, logger *slog.Logger) *KeySets {
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	return &KeySets{forbid: forbid, logger: logger, sets: make(map[keySetKey]*keySet)}
}

// open takes a reference to the keys of a URL. release gives it back; the last
// one to do so stops the fetching, and waits for it.
func (s *KeySets) open(url string, private bool) (set *keySet, release func(), err error) {
	key := keySetKey{url, private}
	s.mu.Lock()
	defer s.mu.Unlock()
	set = s.sets[key]
	if set == nil {
		out, err := safehttp.New(url, safehttp.Options{AllowPrivate: private, Timeout: jwksTimeout, Forbid: s.forbid})
		if err != nil {
			return nil, nil, err
		}
		set = newKeySet(url, s.logger, func(ctx context.Context) ([]verifyKey, error) { return fetchKeys(ctx, out) })
		s.sets[key] = set
	}
	set.references++
	return set, func() { s.release(key, set) }, nil
}

func (s *KeySets) release(key keySetKey, set *keySet) {
	s.mu.Lock()
	set.references--
	last := set.references == 0
	if last {
		delete(s.sets, key)
	}
	s.mu.Unlock()
	if last {
		set.close()
	}
}

// keySet is the keys of a URL. They are fetched when they are needed, once a minute
// at most. If they cannot be, those of before are used for up to a day.
type keySet struct {
	fetch  func(context.Context) ([]verifyKey, error)
	url    string
	logger *slog.Logger

	references int // of KeySets, which guards it

	ctx  context.Context // ends with the last reference
	stop context.CancelFunc
	work sync.WaitGroup

	mu      sync.Mutex // guards what follows
	keys    []verifyKey
	version uint64        // of keys: how often they were fetched
	fetched time.Time     // when keys were
	tried   time.Time     // when a fetch began last
	running chan struct{} // closed when the fetch that runs has ended; nil: none
}

// ErrNoKeys says that tokens cannot be verified now, because there are no keys.
var ErrNoKeys = errkind.New("unavailable", "identity", "the keys that tokens are verified with could not be fetched")

func newKeySet(url string, logger *slog.Logger, fetch func(context.Context) ([]verifyKey, error)) *keySet {
	s := &keySet{url: url, logger: logger, fetch: fetch}
	s.ctx, s.stop = context.WithCancel(context.Background())
	return s
}

// source names the set, whichever of its keys has verified a token.
func (s *keySet) source() string { return "jwks " + s.url }

// close stops the fetching, and waits for it.
func (s *keySet) close() {
	s.stop()
	s.work.Wait()
}

// find returns the keys that may verify a token, and the version that they are of. An
// unknown key id may be that of a new key: unless offline is set, find then waits for a
// fetch, if one is due.
func (s *keySet) find(ctx context.Context, algorithm jose.SignatureAlgorithm, id string, offline bool) ([]verifyKey, uint64, error) {
	for first := true; ; first = false {
		found, version, fetching := s.look(algorithm, id, time.Now())
		switch {
		case len(found) > 0:
			return found, version, nil
		case fetching == nil || offline || !first:
			if version == 0 {
				return nil, 0, ErrNoKeys
			}
			return nil, version, nil
		}
		select {
		case <-fetching:
		case <-ctx.Done():
			return nil, 0, ctx.Err()
		}
	}
}

// look returns the keys that fit, the version of the keys that are known, 0 for none,
// and a chan that is closed when a fetch has ended; nil where none runs for them.
func (s *keySet) look(algorithm jose.SignatureAlgorithm, id string, now time.Time) (found []verifyKey, version uint64, fetching <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	version = s.usable(now)
	if version > 0 {
		for i := range s.keys {
			if s.keys[i].fits(algorithm, id) {
				found = append(found, s.keys[i])
			}
		}
	}
	if len(found) == 0 || now.Sub(s.fetched) >= jwksFresh {
		fetching = s.begin(now)
	}
	return found, version, fetching
}

// inUse returns the version of the keys that tokens are verified with now, 0 for none.
// It has them fetched again when that is due, as a token does that is verified.
func (s *keySet) inUse(now time.Time) uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now.Sub(s.fetched) >= jwksFresh {
		s.begin(now)
	}
	return s.usable(now)
}

// usable is the version of the keys, 0 where there are none that may be used. keySet.mu
// is held.
func (s *keySet) usable(now time.Time) uint64 {
	if s.keys == nil || now.Sub(s.fetched) >= jwksStale {
		return 0
	}
	return s.version
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
			s.logger.Error("fetching keys", slog.String("url", s.url), slog.Any("error", err))
			return
		}
		s.keys, s.fetched = keys, time.Now()
		s.version++
	})
	return done
}

// fetchKeys reads a JSON Web Key Set.
func fetchKeys(ctx context.Context, out *safehttp.Client) ([]verifyKey, error) {
	r, err := out.Request(ctx)
	if err != nil {
		return nil, err
	}
	r.Header.Set("Accept", "application/jwk-set+json, application/json")
	resp, err := out.Do(r)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	defer out.CloseIdle() // it is a minute at least until the next
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

// readKeySet returns the keys of a set that can verify tokens. It passes over other
// keys, as RFC 7517 asks, and over secrets, which everybody who reads the set knows.
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
