package auth

import (
	"crypto/sha256"
	"encoding/json"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/evstream/caddy-evstream/access"
	"github.com/evstream/caddy-evstream/internal/ttlmap"
)

// Bounds of the tokens that are remembered: at most 64 MiB, and of one caller's at most
// 512 KiB.
const (
	// maxVerified is how many tokens are remembered.
	maxVerified = 4096
	// maxVerifiedOfOne is how many of one caller are. Whoever has more pays for
	// verifying those that were used first, and takes no room from others.
	maxVerifiedOfOne = maxVerified / 128
	// maxVerifiedSize is the size of a token that is remembered, as sizeOfClaims
	// counts. A larger one is verified each time.
	maxVerifiedSize = 16 << 10
	// verifiedFor is how long a token is remembered after it was verified. It bounds
	// how long one that is not used any more takes room from another.
	verifiedFor = time.Minute
)

// verified is what a token says whose signature was verified. It does not change.
type verified struct {
	std jwt.Claims     // checked against the clock at each use
	who *access.Caller // with the Expires and Issued of a token that has not expired
	// version is that of the keys of the JWKS, one of which has verified the token; 0
	// where it was a key of the configuration, which does not change.
	version uint64
}

// tokenCache remembers tokens that were verified, by the digest of all their bytes: a
// token that differs in one of them is another. Tokens that are refused are not
// remembered. The zero tokenCache remembers nothing. It is safe for concurrent use.
type tokenCache struct {
	mu      sync.RWMutex // guards entries
	entries ttlmap.Shared[[sha256.Size]byte, *verified]
}

func newTokenCache() *tokenCache {
	return &tokenCache{entries: ttlmap.Shared[[sha256.Size]byte, *verified]{Limit: maxVerified, Share: maxVerifiedOfOne}}
}

// get returns what is remembered under a digest, or nil.
func (c *tokenCache) get(digest [sha256.Size]byte, now time.Time) *verified {
	c.mu.RLock()
	defer c.mu.RUnlock()
	v, _ := c.entries.Get(digest, now)
	return v
}

// set remembers a token in the share of its caller.
func (c *tokenCache) set(digest [sha256.Size]byte, v *verified, now time.Time) {
	if sizeOfClaims(v.who.Claims) > maxVerifiedSize {
		return
	}
	owner := v.who.Identity()
	c.mu.Lock()
	defer c.mu.Unlock()
	_ = c.entries.Set(digest, owner, v, now.Add(verifiedFor), now)
}

// remembered returns what is known of a token that was verified, or nil. A token that a
// key of the JWKS has verified is forgotten as soon as other keys are fetched, or those
// of then have become too old to be used.
func (t *tokens) remembered(digest [sha256.Size]byte, now time.Time) *verified {
	v := t.cache.get(digest, now)
	if v == nil || v.version == 0 {
		return v
	}
	if version := t.set.inUse(now); version != v.version {
		return nil
	}
	return v
}

// sizeOfClaims is about how much memory claims take, and the grants that are read from
// them, in bytes: that of their text, and for each value what a map's entry, a string's
// header and a parsed pattern need.
func sizeOfClaims(value any) int {
	const each = 128
	size := each
	switch v := value.(type) {
	case string:
		size += len(v)
	case json.Number:
		size += len(v)
	case []any:
		for _, element := range v {
			size += sizeOfClaims(element)
		}
	case map[string]any:
		for name, member := range v {
			size += len(name) + sizeOfClaims(member)
		}
	}
	return size
}
