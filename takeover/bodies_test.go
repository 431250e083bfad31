package takeover

import (
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/evstream/caddy-evstream/problem"
)

func TestBodiesAreBoundedForEachCallerAndForAll(t *testing.T) {
	b := bodies{most: 8 << 20, mostOf: 1 << 20}
	one := strings.Repeat("x", 256<<10)
	var held []*heldBody
	for {
		h, err := b.hold(strings.NewReader(one), "greedy", 10<<20)
		if errors.Is(err, errBodiesOf) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		held = append(held, h)
	}
	if len(held) != 3 { // a fourth would be counted with a piece more than it has
		t.Errorf("one caller holds %d bodies", len(held))
	}
	other, err := b.hold(strings.NewReader("small"), "other", 10<<20)
	if err != nil {
		t.Fatalf("another caller: %v", err)
	}
	if got, err := io.ReadAll(other); string(got) != "small" || err != nil {
		t.Errorf("read %q, %v", got, err)
	}
	for _, h := range held {
		if got, err := io.ReadAll(h); len(got) != len(one) || err != nil {
			t.Errorf("read %d bytes, %v", len(got), err)
		}
		_ = h.Close()
	}
	if b.all != 0 || len(b.byOne) != 0 {
		t.Errorf("%d bytes are counted when nothing is held, of %v", b.all, b.byOne)
	}
	for b.all < b.most-512<<10 {
		if _, err := b.hold(strings.NewReader(one), "", 10<<20); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		if _, err = b.hold(strings.NewReader(one), "", 10<<20); err != nil {
			break
		}
	}
	if !errors.Is(err, errBodies) {
		t.Errorf("all hold %d bytes: %v", b.all, err)
	}
}

func TestABodyThatIsTooLargeIsRefused(t *testing.T) {
	b := bodies{most: maxBodies, mostOf: maxBodiesOf}
	for _, n := range []int{100, 101, 70_000} {
		h, err := b.hold(strings.NewReader(strings.Repeat("x", n)), "a", 100)
		switch {
		case n <= 100 && (err != nil || len(h.bytes()) != n):
			t.Errorf("%d bytes: %v", n, err)
		case n > 100 && problem.Of(err).Kind != problem.TooLarge:
			t.Errorf("%d bytes: %v", n, err)
		case h != nil:
			_ = h.Close()
		}
	}
	if _, err := b.hold(io.MultiReader(strings.NewReader("x"), cutReader{}), "a", 100); problem.Of(err).Kind != problem.BadBody {
		t.Errorf("a body that is cut: %v", err)
	}
	if b.all != 0 {
		t.Errorf("%d bytes are counted when nothing is held", b.all)
	}
}

// cutReader is a body that breaks.
type cutReader struct{}

func (cutReader) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }
