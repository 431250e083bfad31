package boltadapter

import (
	"bytes"
	"path/filepath"
	"testing"
	"time"

	"github.com/evstream/caddy-evstream/broker"
)

// FuzzSegment reads a segment with any content, and one whose frame is whole and has any
// records. It must end, and read back only what has a checksum.
func FuzzSegment(f *testing.F) {
	h := header{identity: identity{1}, chain: hashOf(hour()), number: 1, frame: 1, policy: hour()}
	whole := func(records []byte) []byte {
		b := append(beginFrame(nil), records...)
		endFrame(b, &h, headerSize, frameInfo{1, 1, 1})
		return append(h.encode(), b...)
	}
	e := broker.Entry{ID: broker.ID{Ms: 5, N: 6}, Version: 1, Kind: broker.KindEvent, Channel: "a"}
	e.Event.Data = []byte("data")
	records := appendEntry(nil, &e)
	records = appendKey(records, &broker.KeyRecord{Key: broker.Key{Identity: "me", Key: "k"}, ID: e.ID, At: time.UnixMilli(7), Answer: []byte("1")})
	records = appendWritten(records, &broker.Written{Channel: "v", At: 8})
	records = appendRules(records, e.ID, 9)
	for _, seed := range [][]byte{nil, []byte("evfr"), records, records[:20], h.encode(), whole(records), whole(records)[:150], append(whole(records), 0), bytes.Repeat([]byte{fillByte}, 200), append(whole(records), fillByte, fillByte)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for i, content := range [][]byte{b, append(h.encode(), b...), whole(b)} {
			files := newMemDisk()
			path := filepath.Join("log", "segments", newChain("log", hour()).name(), "0000000000000001.log")
			files.put(path, bytes.Clone(content))
			sc := &scan{disk: files, root: "log", identity: h.identity, now: time.Now()}
			if err := sc.run(); err != nil {
				continue
			}
			c := sc.chains[h.chain]
			if c == nil || c.newest() == nil {
				continue
			}
			s := c.newest()
			if i == 2 && s.size != int64(len(content)) || s.size > int64(len(content)) {
				t.Fatalf("%d of %d bytes are taken", s.size, len(content))
			}
			if len(sc.torn) == 0 && !isFill(content[s.size:]) {
				t.Fatalf("bytes after %d are left out silently", s.size)
			}
			r := newReader(files, c)
			for {
				if err := r.fill(); err != nil {
					t.Fatalf("what was checked cannot be read: %v", err)
				}
				if len(r.index) == 0 {
					break
				}
				id, rec := r.head().id, r.take()
				if e := rec.decodeEntry(); e.ID != id {
					t.Fatalf("%+v is not %s", e, id)
				}
			}
		}
	})
}
