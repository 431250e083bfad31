package boltadapter

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// written makes a small log on the disk, closed or not, and returns its directory, its
// segments, and the texts of its entries.
func written(t *testing.T, closed bool) (dir string, files *memDisk, texts []string) {
	t.Helper()
	dir = tempLog(t)
	l := openFilling(t, testConfig(dir), disk{}, time.Now, 0, 0)
	c := follow(t, l)
	fill(t, l, 4)
	_ = c.end()
	if texts = c.texts(); closed {
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	} else {
		l.crash()
	}
	files = newMemDisk()
	files.load(t, dir)
	return dir, files, texts
}

// damaged checks what becomes of a log with damage: it does not open, or after a crash
// the end of what it has is missing and is told.
func damaged(t *testing.T, files *memDisk, dir string, closed bool, texts []string, what string, at int) {
	t.Helper()
	_, c, sc, err := readBack(files, dir, filepath.Join(dir, "meta.db"))
	if err != nil {
		return
	}
	if closed {
		t.Fatalf("%s at %d: a log that was closed opens", what, at)
	}
	if len(sc.torn) == 0 && len(c.entries) != len(texts) {
		t.Fatalf("%s at %d: %d of %d entries, silently", what, at, len(c.entries), len(texts))
	}
	// What is missing is the end of one chain.
	i := 0
	for _, text := range c.texts() {
		for i < len(texts) && texts[i] != text {
			i++
		}
		if i == len(texts) {
			t.Fatalf("%s at %d: the entries are %q", what, at, c.texts())
		}
		i++
	}
}

func TestFlippedBitIsNeverReadInASegment(t *testing.T) {
	t.Parallel()
	for _, closed := range []bool{true, false} {
		dir, files, texts := written(t, closed)
		for _, path := range files.paths() {
			for at := range files.files[path].data {
				for _, bit := range []byte{byte(1) << (at % 8)} {
					d := files.clone()
					d.files[path].data[at] ^= bit
					damaged(t, d, dir, closed, texts, "a bit of "+path, at)
				}
			}
		}
	}
}

func TestFileCutShortIsNoticed(t *testing.T) {
	t.Parallel()
	for _, closed := range []bool{true, false} {
		dir, files, texts := written(t, closed)
		for _, path := range files.paths() {
			whole := files.files[path].data
			for size := range whole {
				d := files.clone()
				d.files[path].data = bytes.Clone(whole[:size])
				if !closed && frameEnd(whole, size) {
					continue // as if the frames after it had never been written
				}
				damaged(t, d, dir, closed, texts, "cut "+path, size)
			}
			d := files.clone()
			delete(d.files, path)
			if closed {
				damaged(t, d, dir, closed, texts, "without "+path, 0)
			}
		}
	}
}

// frameEnd reports whether a frame of a segment ends at size.
func frameEnd(whole []byte, size int) bool {
	return size == headerSize || size == 0 || size > headerSize && bytes.HasPrefix(whole[size:], []byte(frameMagic))
}

func TestBytesAfterTheEndOfAClosedLogAreNoticed(t *testing.T) {
	t.Parallel()
	dir, files, texts := written(t, true)
	for _, path := range files.paths() {
		for _, more := range [][]byte{{0}, make([]byte, 4096), files.files[path].data[headerSize:]} {
			d := files.clone()
			d.files[path].data = append(d.files[path].data, more...)
			damaged(t, d, dir, true, texts, "more in "+path, len(more))
		}
	}
}

func TestFramesOfAnotherPlaceAreNotTaken(t *testing.T) {
	t.Parallel()
	dir, files, texts := written(t, false)
	paths := files.paths()
	d := files.clone()
	d.files[paths[0]].data, d.files[paths[1]].data = d.files[paths[1]].data, d.files[paths[0]].data
	damaged(t, d, dir, true, texts, "two files swapped", 0)
	_, other, _ := written(t, false)
	d = files.clone()
	for i, path := range other.paths() {
		d.files[paths[i]].data = other.files[path].data
	}
	damaged(t, d, dir, true, texts, "files of another log", 0)
	d = files.clone()
	data := d.files[paths[0]].data
	d.files[paths[0]].data = append(data, data[headerSize:]...)
	damaged(t, d, dir, false, texts, "frames twice", 0)
}

// TestDamagedMetaIsNeverRead flips bits of meta.db at random places, and cuts it short.
func TestDamagedMetaIsNeverRead(t *testing.T) {
	t.Parallel()
	dir, _, _ := written(t, true)
	path := filepath.Join(dir, "meta.db")
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	want, err := loadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	bad := filepath.Join(t.TempDir(), "meta.db")
	page, circles := os.Getpagesize(), 0
	for at := 2 * page; at < len(whole); at += page {
		b := bytes.Clone(whole)
		// A branch whose only page is itself: bbolt would follow it for ever.
		binary.NativeEndian.PutUint16(b[at+8:], branchPage)
		binary.NativeEndian.PutUint16(b[at+10:], 1)
		binary.NativeEndian.PutUint64(b[at+16:], 16)
		copy(b[at+24:], b[at:at+8])
		if err := os.WriteFile(bad, b, 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := loadFile(bad)
		circles += min(strings.Count(fmt.Sprint(err), "is referred to where it cannot be"), 1)
		if err == nil && !slices.Equal(namesOf(got), namesOf(want)) {
			t.Fatalf("page %d was read", at/page)
		}
	}
	if circles == 0 {
		t.Error("no page that is in use was damaged")
	}
	r := rand.New(rand.NewPCG(1, 2))
	refused := 0
	for i := range 600 {
		b := bytes.Clone(whole)
		if at := r.IntN(len(b)); i%3 == 0 {
			b = b[:at]
		} else {
			b[at] ^= 1 << r.IntN(8)
		}
		if err := os.WriteFile(bad, b, 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := loadFile(bad)
		if err != nil {
			refused++
			continue
		}
		// The change was to what is not used, or to the newer of two meta pages. Then the
		// mark is of before, and the segments are refused for having more.
		if got.identity != want.identity || got.mark.Clean && !slices.Equal(namesOf(got), namesOf(want)) {
			t.Fatalf("change %d was read", i)
		}
	}
	if refused < 40 {
		t.Errorf("only %d of 600 damaged files were refused", refused)
	}
}

func namesOf(l *loaded) (names []string) {
	for name, v := range l.values {
		names = append(names, name+string(v.Value))
	}
	slices.Sort(names)
	return names
}

func TestDamageSaysWhereItIsAndWhatToDo(t *testing.T) {
	t.Parallel()
	dir, files, _ := written(t, true)
	path := files.paths()[0]
	data := files.files[path].data
	data[len(data)-1]++
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := Open(testConfig(dir))
	damage, ok := errors.AsType[*DamageError](err)
	if !ok || damage.Path != path || damage.Offset < headerSize || damage.Offset >= int64(len(data)) {
		t.Fatalf("got %v", err)
	}
	for _, part := range []string{path, "caddy evstream restore", "caddy evstream log check"} {
		if !bytes.Contains([]byte(err.Error()), []byte(part)) {
			t.Errorf("%q does not say %q", err, part)
		}
	}
	if _, again := Check(dir); !errors.As(again, &damage) {
		t.Errorf("Check says %v", again)
	}
	if err := os.WriteFile(filepath.Join(dir, "meta.db"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(testConfig(dir)); !errors.As(err, &damage) {
		t.Errorf("an empty meta.db: %v", err)
	}
	if err := os.Remove(filepath.Join(dir, "meta.db")); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(testConfig(dir)); !errors.As(err, &damage) {
		t.Errorf("no meta.db: %v", err)
	}
}
