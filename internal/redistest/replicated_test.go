package redistest

import (
	"errors"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
)

func TestReplicasFollowThePrimary(t *testing.T) {
	t.Parallel()
	r := StartReplicated(t, 2, Password("secret"))
	set(t, r.Primary().Client(), "a", "1")
	r.AwaitSynced()
	for _, replica := range r.Replicas() {
		wantValue(t, replica.Client(), "a", "1")
		if err := replica.Client().Set(t.Context(), "a", "2", 0).Err(); !redis.IsReadOnlyError(err) {
			t.Errorf("a replica answers a write with %v", err)
		}
	}
	// WAIT works.
	pipe := r.Primary().Client().Pipeline()
	pipe.Set(t.Context(), "a", "2", 0)
	count := pipe.Do(t.Context(), "WAIT", 2, patience.Milliseconds())
	if _, err := pipe.Exec(t.Context()); err != nil || count.Val() != int64(2) {
		t.Errorf("WAIT says %v, %v", count.Val(), err)
	}
}

func TestPromotedReplicaIsFollowedByTheOthers(t *testing.T) {
	t.Parallel()
	r := StartReplicated(t, 2)
	former := r.Primary()
	set(t, former.Client(), "a", "1")
	r.AwaitSynced()
	promoted := r.Replicas()[1]
	if got := r.Promote(1); got != promoted || r.Primary() != promoted || r.Replicas()[1] != former {
		t.Fatalf("the primary is another")
	}
	set(t, promoted.Client(), "a", "2")
	r.AwaitSynced()
	for _, replica := range r.Replicas() {
		wantValue(t, replica.Client(), "a", "2")
	}
	// The former primary is still a replica after a restart.
	former.Kill()
	set(t, promoted.Client(), "a", "3")
	former.Restart()
	r.AwaitSynced()
	wantValue(t, former.Client(), "a", "3")
}

func TestPromotionWithoutTheFormerPrimaryLosesWhatOnlyItHas(t *testing.T) {
	t.Parallel()
	r := StartReplicated(t, 2, AppendOnly())
	former := r.Primary()
	for _, replica := range r.Replicas() {
		replica.ReplicaOf(nil)
	}
	set(t, former.Client(), "a", "1")
	former.Kill()
	promoted := r.Promote(0)
	set(t, promoted.Client(), "b", "1")
	wantValue(t, promoted.Client(), "a", "")

	// It comes back as a primary.
	former.Restart()
	wantValue(t, former.Client(), "a", "1")
	former.ReplicaOf(promoted)
	r.AwaitSynced()
	wantValue(t, former.Client(), "a", "")
	wantValue(t, former.Client(), "b", "1")
}

func TestReplicaKnowsWhenItIsBehind(t *testing.T) {
	t.Parallel()
	r := StartReplicated(t, 1)
	primary, replica := r.Primary(), r.Replicas()[0]
	replica.ReplicaOf(nil)
	if err := replica.follows(t.Context(), primary, 0); err == nil || !strings.Contains(err.Error(), "another primary") {
		t.Errorf("got %v", err)
	}
	replica.ReplicaOf(primary)
	r.AwaitSynced()
	if err := replica.follows(t.Context(), primary, 1<<40); err == nil || !strings.Contains(err.Error(), "behind") {
		t.Errorf("got %v", err)
	}
	primary.Kill()
	if err := replica.follows(t.Context(), primary, 0); err == nil || errors.Is(err, redis.Nil) {
		t.Errorf("got %v", err)
	}
}
