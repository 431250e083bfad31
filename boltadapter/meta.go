package boltadapter

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"runtime/debug"
	"time"

	bolt "go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"

	"github.com/evstream/caddy-evstream/broker"
)

// mark is what meta.db covers, and what the segments must have.
type mark struct {
	Clean   bool   `json:"clean"`   // the log was closed: the segments have this and no more
	NoSync  bool   `json:"no_sync"` // since the mark segments were written without a sync
	Last    jsonID `json:"last"`    // the newest id
	Commit  uint64 `json:"commit"`  // the newest commit
	Rules   uint64 `json:"rules"`   // digest of the rules of histories
	Mixed   jsonID `json:"mixed"`   // the newest id before they changed last
	Forgot  jsonID `json:"forgot"`  // the newest removal that is not in "removed"
	Values  sum    `json:"values"`
	Removed sum    `json:"removed"`
	Void    []void `json:"void,omitempty"` // ids that were lost when a backup was restored

	Chains map[string]chainMark `json:"chains"`
}

// chainMark is what a chain must have.
type chainMark struct {
	Events int           `json:"events"`
	Age    time.Duration `json:"age"`
	Bytes  int           `json:"bytes"`
	Lost   jsonID        `json:"lost"`
	First  uint64        `json:"first"`  // segment
	Number uint64        `json:"number"` // of the newest segment
	Size   int64         `json:"size"`   // of that
	Frame  uint64        `json:"frame"`  // the newest
}

func (m *chainMark) policy() broker.Policy {
	return broker.Policy{Events: m.Events, Age: m.Age, Bytes: m.Bytes}
}

// void are the ids above After, up to To.
type void struct {
	After jsonID `json:"after"`
	To    jsonID `json:"to"`
}

// maxVoid bounds the voids that are known apart.
const maxVoid = 16

// addVoid notes that the log may have issued ids up to to, and has none above after.
func (m *mark) addVoid(after, to broker.ID) {
	if !to.After(after) {
		return
	}
	m.Void = append(m.Void, void{markID(after), markID(to)})
	if len(m.Void) > maxVoid {
		m.Void[1].After = m.Void[0].After
		m.Void = m.Void[1:]
	}
}

// issued is the newest id that the log may have issued, if last is the newest that it has.
func (m *mark) issued(last broker.ID) broker.ID {
	for _, v := range m.Void {
		last = later(last, v.To.id())
	}
	return last
}

// jsonID is an id as JSON has it.
type jsonID [2]uint64

func (id jsonID) id() broker.ID  { return broker.ID{Ms: id[0], N: id[1]} }
func markID(id broker.ID) jsonID { return jsonID{id.Ms, id.N} }
func later(a, b broker.ID) broker.ID {
	if a.After(b) {
		return a
	}
	return b
}

// sum is the number of the rows of a bucket, and the sum of their checksums.
type sum struct {
	Count int    `json:"count"`
	Sum   uint64 `json:"sum"`
}

func (s *sum) add(row []byte, sign int) {
	if row != nil {
		s.Count += sign
		s.Sum += uint64(sign) * uint64(binary.LittleEndian.Uint32(row[len(row)-4:]))
	}
}

// origin is who the log is.
type origin struct {
	Format   int    `json:"format"`
	Identity string `json:"identity"`
	Born     jsonID `json:"born"`
}

// The names of buckets and rows are constants, because a package has no state.
const (
	bucketMeta    = "meta"
	bucketValues  = "values"
	bucketRemoved = "removed"
	rowOrigin     = "origin"
	rowMark       = "mark"
)

// metaError is a DamageError of meta.db.
func metaError(path, reason string) error { return &DamageError{path, 0, reason} }

// sealed is a row: content and checksum.
func sealed(key, content []byte) []byte {
	c := crc32.Update(crc32.Checksum(key, crcTable()), crcTable(), []byte{0})
	return binary.LittleEndian.AppendUint32(content, crc32.Update(c, crcTable(), content))
}

// unsealed is the content of a row.
func unsealed(key, row []byte) ([]byte, bool) {
	if len(row) < 4 {
		return nil, false
	}
	content := row[: len(row)-4 : len(row)-4]
	c := crc32.Update(crc32.Checksum(key, crcTable()), crcTable(), []byte{0})
	return content, crc32.Update(c, crcTable(), content) == binary.LittleEndian.Uint32(row[len(row)-4:])
}

// value is the row of a value.
type value struct {
	broker.State
	owner broker.Owner
}

func (v *value) encode(name []byte) []byte {
	b := make([]byte, 0, 32+5+len(v.Session)+len(v.Value)+4)
	b = appendNumber(appendNumber(appendID(b, v.Version), v.Written), uint64(v.owner))
	return sealed(name, append(appendText(b, v.Session), v.Value...))
}

func decodeValue(name, row []byte) (v value, ok bool) {
	content, ok := unsealed(name, row)
	if !ok {
		return v, false
	}
	in := input{b: content}
	v.Version, v.Written, v.owner = in.id(), in.number(), broker.Owner(in.number())
	v.Session = string(in.text())
	v.Value = append([]byte{}, in.b...)
	return v, !in.bad
}

// loaded is what meta.db has.
type loaded struct {
	identity identity
	born     broker.ID
	mark     mark
	values   map[string]value
	removed  map[string]broker.ID
}

// ErrLocked is the error of Start where the log is open elsewhere, also in this process.
var ErrLocked = errors.New("another process has the log open: a directory is for one process")

// lockPatience is how long the lock of another process is waited for: it may be about
// to end.
const lockPatience = time.Second

// openDB opens meta.db. bbolt panics where a file is damaged in some ways.
func openDB(path string, readOnly, noSync bool) (db *bolt.DB, err error) {
	defer func() {
		if p := recover(); p != nil {
			db, err = nil, metaError(path, fmt.Sprint(p))
		}
	}()
	var opened *os.File
	db, err = bolt.Open(path, 0o600, &bolt.Options{
		Timeout: lockPatience, ReadOnly: readOnly, NoSync: noSync,
		NoFreelistSync: true, FreelistType: bolt.FreelistMapType,
		OpenFile: func(name string, flag int, mode os.FileMode) (f *os.File, err error) {
			f, err = os.OpenFile(filepath.Clean(name), flag, mode)
			opened = f
			return f, err
		},
	})
	switch {
	case errors.Is(err, berrors.ErrTimeout):
		return nil, ErrLocked
	case errors.Is(err, berrors.ErrInvalid), errors.Is(err, berrors.ErrChecksum), errors.Is(err, berrors.ErrVersionMismatch):
		return nil, metaError(path, err.Error())
	case err != nil:
		return nil, err
	}
	if !isStill(opened, path) {
		return nil, errors.Join(ErrLocked, db.Close())
	}
	return db, nil
}

// isStill reports whether f is what is at path. While its lock was waited for, whoever had
// it may have put another file there: a compaction does, and goes on with that.
func isStill(f *os.File, path string) bool {
	is, err := f.Stat()
	if err != nil {
		return false
	}
	there, err := os.Stat(path)
	return err == nil && os.SameFile(is, there)
}

// loadFile reads all of meta.db, before it is opened for writing: then bbolt reads it in a
// goroutine of its own, whose panic would end the process.
func loadFile(path string) (*loaded, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Size() == 0 { // bbolt would begin a new one
		return nil, metaError(path, "the file is empty")
	}
	db, err := openDB(path, true, false)
	if err != nil {
		return nil, err
	}
	if err := checkPages(db); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	l, err := load(db)
	return l, errors.Join(err, db.Close())
}

// update and view run a transaction. They turn a panic of bbolt into an error.
func update(db *bolt.DB, do func(*bolt.Tx) error) error { return guarded(db, db.Update, do) }
func view(db *bolt.DB, do func(*bolt.Tx) error) error   { return guarded(db, db.View, do) }

func guarded(db *bolt.DB, run func(func(*bolt.Tx) error) error, do func(*bolt.Tx) error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true)) // the file may be cut short
	defer func() {
		if p := recover(); p != nil {
			err = metaError(db.Path(), fmt.Sprint(p))
		}
	}()
	return run(do)
}

// create makes the buckets of a new log.
func create(db *bolt.DB, now time.Time) error {
	var id identity
	_, _ = rand.Read(id[:]) // never fails: it ends the process instead
	return update(db, func(tx *bolt.Tx) error {
		for _, name := range []string{bucketMeta, bucketValues, bucketRemoved} {
			if _, err := tx.CreateBucket([]byte(name)); err != nil {
				return err
			}
		}
		born := broker.ID{Ms: uint64(max(now.UnixMilli(), 1))}
		o := origin{Format: format, Identity: hex.EncodeToString(id[:]), Born: markID(born)}
		return errors.Join(putJSON(tx, rowOrigin, o), putJSON(tx, rowMark, mark{Last: o.Born}))
	})
}

func putJSON(tx *bolt.Tx, key string, v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return tx.Bucket([]byte(bucketMeta)).Put([]byte(key), sealed([]byte(key), text))
}

func getJSON(tx *bolt.Tx, key string, v any) error {
	b := tx.Bucket([]byte(bucketMeta))
	if b == nil {
		return errors.New("it has no meta data")
	}
	content, ok := unsealed([]byte(key), b.Get([]byte(key)))
	if !ok {
		return fmt.Errorf("its row %q is damaged or missing", key)
	}
	return json.Unmarshal(content, v)
}

// load reads all of meta.db.
func load(db *bolt.DB) (*loaded, error) {
	l := &loaded{values: map[string]value{}, removed: map[string]broker.ID{}}
	err := view(db, func(tx *bolt.Tx) error {
		var o origin
		if err := getJSON(tx, rowOrigin, &o); err != nil {
			return err
		}
		if o.Format != format {
			return fmt.Errorf("the log has format %d; this version knows format %d", o.Format, format)
		}
		if n, err := hex.Decode(l.identity[:], []byte(o.Identity)); err != nil || n != len(l.identity) {
			return errors.New("its identity cannot be read")
		}
		l.born = o.Born.id()
		if err := getJSON(tx, rowMark, &l.mark); err != nil {
			return err
		}
		if err := eachRow(tx, bucketValues, l.mark.Values, func(key, row []byte) bool {
			v, ok := decodeValue(key, row)
			l.values[string(key)] = v
			return ok
		}); err != nil {
			return err
		}
		return eachRow(tx, bucketRemoved, l.mark.Removed, func(key, row []byte) bool {
			content, ok := unsealed(key, row)
			in := input{b: content}
			l.removed[string(key)] = in.id()
			return ok && !in.bad
		})
	})
	if err != nil {
		if _, is := errors.AsType[*DamageError](err); !is {
			err = metaError(db.Path(), err.Error())
		}
		return nil, err
	}
	return l, nil
}

// eachRow reads the rows of a bucket, which must be those of want.
func eachRow(tx *bolt.Tx, bucket string, want sum, do func(key, row []byte) bool) error {
	b := tx.Bucket([]byte(bucket))
	if b == nil {
		return fmt.Errorf("its bucket %q is missing", bucket)
	}
	var got sum
	err := b.ForEach(func(key, row []byte) error {
		if !do(key, row) {
			return fmt.Errorf("the row of %q in %q is damaged", key, bucket)
		}
		got.add(row, 1)
		return nil
	})
	if err == nil && got != want {
		err = fmt.Errorf("rows of %q are missing or old: it has %d, and must have %d", bucket, got.Count, want.Count)
	}
	return err
}

// put sets or removes a row, and keeps the sum of its bucket. A nil row removes.
func put(tx *bolt.Tx, bucket string, s *sum, key, row []byte) error {
	b := tx.Bucket([]byte(bucket))
	old := b.Get(key)
	s.add(old, -1)
	s.add(row, 1)
	switch {
	case row != nil:
		return b.Put(key, row)
	case old != nil:
		return b.Delete(key)
	}
	return nil
}
