package backlog

import (
	"errors"
	"fmt"
	"slices"
	"testing"
)

type item struct {
	Ticket
	name string
	ends []error
}

func (i *item) End(err error) { i.ends = append(i.ends, err) }

var (
	errClosed = errors.New("closed")
	errDown   = errors.New("down")
)

func of(name string, ops, bytes int) *item {
	return &item{Ticket: Ticket{Ops: ops, Bytes: bytes}, name: name}
}

func newTestQueue() *Queue[*item] {
	return New[*item](Bounds{Ops: 10, Bytes: 100, BatchOps: 4, BatchBytes: 40}, func(ops int) error { return fmt.Errorf("%d wait", ops) }, errClosed)
}

func names(batch []*item) (list []string) {
	for _, i := range batch {
		list = append(list, i.name)
	}
	return list
}

func want(t *testing.T, got []*item, expected ...string) {
	t.Helper()
	if !slices.Equal(names(got), expected) {
		t.Errorf("got %v, want %v", names(got), expected)
	}
}

func add(t *testing.T, q *Queue[*item], items ...*item) {
	t.Helper()
	for _, i := range items {
		if err := q.Add(i); err != nil {
			t.Fatal(err)
		}
	}
}

func kicked(q *Queue[*item]) bool {
	select {
	case <-q.C:
		return true
	default:
		return false
	}
}

func TestBatchesAreInOrderAndBounded(t *testing.T) {
	q := newTestQueue()
	a, b, c, d, large := of("a", 2, 1), of("b", 2, 1), of("c", 1, 39), of("d", 1, 2), of("large", 3, 50)
	add(t, q, a, b, c, d, large)
	if !kicked(q) || q.Ops() != 9 {
		t.Errorf("%d wait", q.Ops())
	}
	if err := q.Add(of("e", 2, 1)); err == nil || err.Error() != "9 wait" {
		t.Errorf("over the bound: %v", err)
	}
	if !q.Remove(b) || q.Remove(b) || q.Ops() != 7 {
		t.Errorf("removing: %d wait", q.Ops())
	}
	want(t, q.Take(nil), "a", "c") // d would be too many bytes
	if !kicked(q) {
		t.Error("what is left does not kick")
	}
	if q.Remove(a) {
		t.Error("what was taken was removed")
	}
	want(t, q.Take(nil), "d")
	want(t, q.Take(nil), "large") // over the bounds by itself
	if kicked(q); len(q.Take(nil)) != 0 || q.Ops() != 0 {
		t.Error("something is left")
	}
	add(t, q, of("huge", 11, 1000)) // it is alone
}

func TestWhatIsGivenBackComesFirst(t *testing.T) {
	q := newTestQueue()
	add(t, q, of("a", 1, 1), of("b", 1, 1))
	batch := q.Take(nil)
	add(t, q, of("c", 1, 1))
	q.GiveBack(batch)
	want(t, q.Take(nil), "a", "b", "c")
}

func TestWaitersAreToldOfTheirEndOnce(t *testing.T) {
	q := newTestQueue()
	a, b, removed := of("a", 1, 1), of("b", 1, 1), of("removed", 1, 1)
	add(t, q, a, removed)
	q.Remove(removed)
	if !q.Fail(errDown) || q.Fail(errDown) || q.Ops() != 0 {
		t.Error("failing is not told once")
	}
	if err := q.Add(b); !errors.Is(err, errDown) {
		t.Errorf("added while it is down: %v", err)
	}
	if !q.Up() || q.Up() {
		t.Error("that it is up is not told once")
	}
	add(t, q, b)
	taken := of("taken", 1, 1)
	add(t, q, taken)
	q.Remove(b)
	batch := q.Take(nil)
	last := of("last", 1, 1)
	add(t, q, last)
	q.Close()
	q.GiveBack(batch)
	if err := q.Add(b); !errors.Is(err, errClosed) {
		t.Errorf("added after Close: %v", err)
	}
	for i, ends := range map[*item][]error{a: {errDown}, removed: nil, b: nil, taken: {errClosed}, last: {errClosed}} {
		if !slices.Equal(i.ends, ends) {
			t.Errorf("%s ended with %v, want %v", i.name, i.ends, ends)
		}
	}
}
