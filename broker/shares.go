package broker

import (
	"container/heap"
	"crypto/sha256"
	"encoding/binary"

	"github.com/evstream/caddy-evstream/internal/errkind"
)

// Shares: what one owner may fill of the broker's tables. Over its share its own oldest
// yields, where something may be dropped: channels without readers. Where nothing may
// be, the owner is refused, and nobody else.
//
// The accounts of an owner are there as long as something in the tables is its: they
// are bounded by the tables.

// Owner is whose share something counts in. The broker does not know what it stands
// for; see OwnerOf. Zero is nobody: what is not in any share.
type Owner uint64

// OwnerOf is the owner with that name; zero for "". It is the same on all nodes.
func OwnerOf(name string) Owner {
	if name == "" {
		return 0
	}
	sum := sha256.Sum256([]byte(name))
	return Owner(max(binary.LittleEndian.Uint64(sum[:8]), 1))
}

// The errors of an owner whose share is used up.
var (
	ErrShareOfChannels = errkind.New("share", "share", "your share of channels is used up, and all of them are read")
	ErrShareOfNames    = errkind.New("share", "share", "your share of channels that only subscribers keep is used up")
	ErrShareOfPatterns = errkind.New("share", "share", "your share of wildcard patterns is used up")
	ErrShareOfKeys     = errkind.New("share", "share", "your share of idempotency keys is used up: each is remembered for 5 minutes")
	ErrShareOfValues   = errkind.New("state-full", "share", "your share of values is used up")
)

// table is one of the tables that feeds count in.
type table uint8

const (
	// inChannels: it was published to. Over the bound the one without readers that
	// was used longest ago yields.
	inChannels table = iota
	// inNames: a name that only readers keep, or a pattern that costs no more than
	// one. Nothing yields to it.
	inNames
	// inPatterns: another pattern, which costs something with each event.
	inPatterns
	tables
)

// owner is the accounts of one Owner. Broker.mu guards it.
type owner struct {
	id      Owner
	held    [tables]int // feeds
	idle    idleList    // of them, channels without readers, used longest ago first
	largest sizeHeap    // of them, those that hold memory
	bytes   int         // of their histories
	heap    int         // index in owners.byBytes

	closed  int // channels that it has closed
	closing int // that it may close by operations which the log decides on now

	values valueCount // that it has
	coming valueCount // that it may get by operations which the log decides on now
	keys   keyCount
}

// owners are those that have something in the tables.
type owners struct {
	byID    map[Owner]*owner
	byBytes ownerHeap // the one whose histories are the largest first
	full    int       // how many have their share of channels
}

// get is an owner, and is made if it has nothing yet: then the caller gives it
// something. It is nil for nobody.
func (o *owners) get(id Owner) *owner {
	if id == 0 {
		return nil
	}
	own := o.byID[id]
	if own == nil {
		own = &owner{id: id, idle: idleList{own: true}, largest: sizeHeap{own: true}}
		if o.byID == nil {
			o.byID = map[Owner]*owner{}
		}
		o.byID[id] = own
		heap.Push(&o.byBytes, own)
	}
	return own
}

// release drops an owner that has nothing any more.
func (o *owners) release(own *owner) {
	if own == nil || own.held != [tables]int{} || own.values != (valueCount{}) || own.coming != (valueCount{}) || own.keys.any() || own.closed+own.closing > 0 {
		return
	}
	heap.Remove(&o.byBytes, own.heap)
	delete(o.byID, own.id)
}

// share is what one owner may have of a table of size n.
func (b *Broker) share(n int) int {
	if n == Unlimited || b.cfg.Share >= 100 {
		return n
	}
	return max(n/100*b.cfg.Share+n%100*b.cfg.Share/100, 1)
}

// boundOf is how many feeds a table may have.
func (b *Broker) boundOf(t table) int {
	if t == inPatterns {
		return b.cfg.MaxPatterns
	}
	return b.cfg.MaxChannels
}

// overShare reports whether an owner has its share of a table.
func (b *Broker) overShare(own *owner, t table) bool {
	return own != nil && own.held[t] >= b.share(b.boundOf(t))
}

// enter counts a feed in a table, as that of an owner.
func (b *Broker) enter(f *feed, t table, id Owner) {
	f.table = t
	b.held[t]++
	own := b.owners.get(id)
	if own == nil {
		return
	}
	if own.held[t]++; t == inChannels && own.held[t] == b.share(b.cfg.MaxChannels) {
		b.owners.full++
	}
	b.setOwners(f, own)
}

// leave ends what enter began. The feed must not be in an idle list.
func (b *Broker) leave(f *feed) {
	b.held[f.table]--
	own := f.owner
	if own == nil {
		return
	}
	if own.held[f.table]--; f.table == inChannels && own.held[f.table] == b.share(b.cfg.MaxChannels)-1 {
		b.owners.full--
	}
	b.setOwners(f, nil)
	b.owners.release(own)
}

// move counts a feed in another table, or as that of another owner.
func (b *Broker) move(f *feed, t table, id Owner) {
	b.leave(f)
	b.enter(f, t, id)
}

// setOwners moves the memory of a feed, and of what belongs to it, to the account of an
// owner, nil for none.
func (b *Broker) setOwners(f *feed, own *owner) {
	b.setOwner(f, own)
	if f.state != nil {
		b.setOwner(f.state, own)
	}
	if r := b.filling; r != nil && r.p == f {
		b.setOwner(r.older, own)
	}
}

// setOwner moves the memory of a feed to the account of an owner, nil for none.
func (b *Broker) setOwner(f *feed, own *owner) {
	size := f.charged
	b.account(f, 0)
	f.owner = own
	b.account(f, size)
}

// countFull counts the owners that have their share of channels anew.
func (b *Broker) countFull() {
	b.owners.full = 0
	for _, own := range b.owners.byID {
		if b.overShare(own, inChannels) {
			b.owners.full++
		}
	}
}

// pushIdle makes a channel without readers the last one to be dropped.
func (b *Broker) pushIdle(f *feed) {
	b.idle.push(f)
	if f.owner != nil {
		f.owner.idle.push(f)
	}
}

// removeIdle removes a channel from those without readers, if it is one.
func (b *Broker) removeIdle(f *feed) {
	b.idle.remove(f)
	if f.owner != nil {
		f.owner.idle.remove(f)
	}
}

// mayAdd reports why an owner cannot get one more channel, nil if it can.
func (b *Broker) mayAdd(id Owner) error {
	own := b.owners.byID[id]
	switch {
	case b.overShare(own, inChannels) && own.idle.first == nil:
		return ErrShareOfChannels
	case b.held[inChannels] >= b.cfg.MaxChannels && b.idle.first == nil:
		return ErrTooManyChannels
	}
	return nil
}

// yieldChannel drops a channel, if one has to go for one more of an owner. It is false
// if none can.
//
// An owner's own one goes if it has its share, or more than the owner of the channel
// whose turn it is: who adds many does so at its own cost.
func (b *Broker) yieldChannel(id Owner) bool {
	if b.mayAdd(id) != nil {
		return false
	}
	own, oldest := b.owners.byID[id], b.idle.first
	switch {
	case b.overShare(own, inChannels):
		b.removeFeed(own.idle.first)
	case b.held[inChannels] < b.cfg.MaxChannels:
	case own != nil && own.idle.first != nil && oldest.owner != nil && own.held[inChannels] > oldest.owner.held[inChannels]:
		b.removeFeed(own.idle.first)
	default:
		b.removeFeed(oldest)
	}
	return true
}

// yieldBytes is the history that drops its oldest events for one that grows: the
// largest one of who has more than a share of the memory, if there is one; else the
// largest of all, unless who grows has more in all than its owner. It is nil if there
// is none.
func (b *Broker) yieldBytes(growing *feed) *feed {
	if len(b.largest.feeds) == 0 {
		return nil
	}
	if all := b.owners.byBytes; len(all) > 0 && all[0].bytes > b.share(b.cfg.MaxBytes) {
		return all[0].largest.feeds[0]
	}
	largest := b.largest.feeds[0]
	if growing != nil && growing.owner != nil && largest.owner != nil && growing.owner.bytes > largest.owner.bytes {
		return growing.owner.largest.feeds[0]
	}
	return largest
}

// ownerHeap is a heap of owners, the one whose histories are the largest first.
type ownerHeap []*owner

func (h ownerHeap) Len() int           { return len(h) }
func (h ownerHeap) Less(i, j int) bool { return h[i].bytes > h[j].bytes }
func (h ownerHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].heap, h[j].heap = i, j
}

func (h *ownerHeap) Push(x any) {
	own := x.(*owner)
	own.heap = len(*h)
	*h = append(*h, own)
}

func (h *ownerHeap) Pop() any {
	old := *h
	own := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	return own
}
