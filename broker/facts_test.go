package broker

import (
	"context"
	"errors"
	"testing"
	"time"
)

// Of several nodes that change a fact, each under the condition that it is as they know
// it, one does.
func TestAFactIsChangedUnderACondition(t *testing.T) {
	l := newSharedLog(t, onePolicy)
	a, b := l.join("a", DefaultConfig()), l.join("b", DefaultConfig())
	ctx := context.Background()
	first, err := a.b.ChangeFact(ctx, "f", []byte(`1`), time.Time{}, ID{})
	if err != nil || first.IsZero() {
		t.Fatal(first, err)
	}
	if _, err := b.b.ChangeFact(ctx, "f", []byte(`2`), time.Time{}, ID{}); !errors.Is(err, ErrStateMismatch) {
		t.Errorf("it is there and is made: %v", err)
	}
	second, err := b.b.ChangeFact(ctx, "f", []byte(`2`), time.Time{}, first)
	if err != nil || !second.After(first) {
		t.Fatal(second, err)
	}
	for _, data := range [][]byte{[]byte(`3`), nil} {
		if _, err := a.b.ChangeFact(ctx, "f", data, time.Time{}, first); !errors.Is(err, ErrStateMismatch) {
			t.Errorf("another version is changed to %s: %v", data, err)
		}
	}
	heard := make(chan Notice, 10)
	b.step(10)
	b.b.Listen(func(n Notice) { heard <- n })
	<-heard // Reset
	if n := <-heard; n.ID != second || string(n.Data) != "2" {
		t.Errorf("heard %+v, want version %s", n, second)
	}
	if _, err := a.b.ChangeFact(ctx, "f", nil, time.Time{}, second); err != nil {
		t.Error(err)
	}
	if _, err := a.b.ChangeFact(ctx, "a//b", []byte(`3`), time.Time{}, ID{}); err == nil {
		t.Error("a name that is none is taken")
	}
}
