package takeover

import (
	"strings"
	"testing"
)

// Many small bodies of one caller are held at once: what was read counts as what it has, not
// as what it could have had.
func TestSmallBodiesCountAsWhatTheyHave(t *testing.T) {
	b := &bodies{most: maxBodies, mostOf: maxBodiesOf}
	var all []*heldBody
	for range 5000 {
		h, err := b.hold(strings.NewReader("{}"), "me", DefaultMaxBody)
		if err != nil {
			t.Fatalf("after %d: %v", len(all), err)
		}
		all = append(all, h)
	}
	large, err := b.hold(strings.NewReader(strings.Repeat("x", bodyPiece)), "me", DefaultMaxBody)
	if err != nil || len(large.bytes()) != bodyPiece {
		t.Fatal(err)
	}
	for _, h := range append(all, large) {
		_ = h.Close()
		_ = h.Close()
	}
	if b.all != 0 || len(b.byOne) != 0 {
		t.Errorf("%d bytes are counted still, of %v", b.all, b.byOne)
	}
}
