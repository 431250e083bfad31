package hub

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/evstream/caddy-evstream/access"
	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/stream"
)

// heard waits until a hub has heard what it has told the log.
func heard(t testing.TB, h *Hub) {
	t.Helper()
	eventually(t, "the log to tell what it was told", func() bool {
		h.revocations.mu.RLock()
		defer h.revocations.mu.RUnlock()
		return len(h.revocations.own.all(time.Now())) == 0
	})
}

func TestRevocationsAreBounded(t *testing.T) {
	h := testHub(t, Config{})
	h.revocations.most = 2
	now := time.Now()
	for _, tt := range []struct {
		r  Revocation
		ok bool
	}{
		{Revocation{User: "a", At: now}, true},
		{Revocation{User: "b", At: now, Until: now.Add(time.Minute)}, true},
		{Revocation{User: "c", At: now}, false},
		{Revocation{User: "a", At: now.Add(time.Second)}, true},
		{Revocation{Token: "a", At: now}, true},
		{Revocation{Token: "b", At: now}, true},
		{Revocation{Token: "c", At: now}, false},
	} {
		_, err := h.Revoke(t.Context(), &tt.r, now)
		heard(t, h)
		if (err == nil) != tt.ok {
			t.Errorf("%+v: %v", tt.r, err)
		}
		if err != nil {
			refusedWith(t, err, http.StatusServiceUnavailable)
		}
	}
	if _, err := h.Revoke(t.Context(), &Revocation{User: "c", At: now}, now.Add(time.Minute)); err != nil {
		t.Errorf("there is room again: %v", err)
	}
}

// A stream that opens while its user is revoked is ended or refused: nothing
// slips in between what is remembered and what is ended.
func TestNoStreamSlipsThroughARevocation(t *testing.T) {
	for range 200 {
		h := testHub(t, Config{})
		who := &access.Caller{User: "alice", Issued: time.Now().Add(-time.Hour)}
		s := testSession(t, h, "")
		var opening sync.WaitGroup
		var refused error
		opening.Go(func() { refused = addFor(h, s, who) })
		opening.Go(func() {
			now := time.Now()
			if _, err := h.Revoke(t.Context(), &Revocation{User: "alice", At: now}, now); err != nil {
				t.Error(err)
			}
		})
		opening.Wait()
		select {
		case <-s.Stream.Done():
		default:
			if refused == nil {
				t.Fatal("it is open, and its user revoked")
			}
			s.Stream.Close(stream.ReasonRefused)
		}
		h.Remove(s)
	}
}

// slowLog is a log that takes nothing before it may.
type slowLog struct {
	broker.Log
	may chan struct{}
}

func (l slowLog) Append(ctx context.Context, ops []broker.Op) ([]broker.Result, error) {
	<-l.may
	return l.Log.Append(ctx, ops)
}

// However long the log is tried.
func TestStreamsOfWhoIsRevokedEndBeforeTheLogIsTold(t *testing.T) {
	log := slowLog{broker.NewMemory(), make(chan struct{})}
	h := hubOn(t, log, Config{})
	who := &access.Caller{User: "alice", Issued: time.Now().Add(-time.Hour)}
	s := testSession(t, h, "")
	if err := addFor(h, s, who); err != nil {
		t.Fatal(err)
	}
	told := make(chan error)
	go func() {
		now := time.Now()
		_, err := h.Revoke(t.Context(), &Revocation{User: "alice", At: now}, now)
		told <- err
	}()
	select {
	case <-s.Stream.Done():
	case <-time.After(patience):
		t.Error("the stream goes on")
	}
	select {
	case err := <-told:
		t.Errorf("the log was told: %v", err)
	default:
	}
	refusedWith(t, h.MayEnter(who, time.Now()), http.StatusUnauthorized)
	close(log.may)
	if err := <-told; err != nil {
		t.Error(err)
	}
	h.Remove(s)
}

func TestWhoMayGoOn(t *testing.T) {
	h := testHub(t, Config{})
	now := time.Now()
	if err := h.revocations.add(Revocation{Token: "t1", At: now}, now); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		who  *access.Caller
		want error
	}{
		"anonymous":                  {access.AnonymousCaller(), nil},
		"a token that lasts":         {&access.Caller{TokenID: "t2", Expires: now.Add(time.Second)}, nil},
		"a token that has expired":   {&access.Caller{TokenID: "t2", Expires: now}, access.ErrExpired},
		"a token that was revoked":   {&access.Caller{TokenID: "t1"}, access.ErrRevoked},
		"a ticket of a revoked one":  {&access.Caller{TokenID: "x", Parent: "t1"}, access.ErrRevoked},
		"a ticket of another token":  {&access.Caller{TokenID: "x", Parent: "t2"}, nil},
		"expired, and revoked, too":  {&access.Caller{TokenID: "t1", Expires: now}, access.ErrExpired},
		"a user whose name is taken": {&access.Caller{User: "t1"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			if err := h.MayGoOn(tt.who, now); !errors.Is(err, tt.want) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
		})
	}
}
