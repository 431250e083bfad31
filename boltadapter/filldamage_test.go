package boltadapter

import (
	"bytes"
	"errors"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// crashed makes a log with a little fill behind its frames that is not closed.
func crashed(t *testing.T) (dir string, files *memDisk, texts []string) {
	t.Helper()
	dir = tempLog(t)
	l := openFilling(t, testConfig(dir), disk{}, time.Now, 150, 300)
	c := follow(t, l)
	fill(t, l, 4)
	appended(t, l, event("a", "the last one, in one chain")) // others cannot tell that it is gone
	texts = c.texts()
	if filledBytes(l) == 0 {
		t.Fatal("nothing is filled")
	}
	l.crash()
	files = newMemDisk()
	files.load(t, dir)
	return dir, files, texts
}

// framesEnd is where the fill of a segment begins.
func framesEnd(data []byte) int {
	n := len(data)
	for n > 0 && data[n-1] == fillByte {
		n--
	}
	return n
}

// opensWith checks that damage behind the frames loses nothing, and is told with its place.
func opensWith(t *testing.T, files *memDisk, dir, path string, from int, texts []string) {
	t.Helper()
	_, c, sc, err := readBack(files, dir, filepath.Join(dir, "meta.db"))
	if err != nil {
		t.Fatal(err)
	}
	if got := c.texts(); !slices.Equal(got, texts) {
		t.Fatalf("%q, want %q", got, texts)
	}
	if len(sc.torn) != 1 || sc.torn[0].Path != path || sc.torn[0].From != int64(from) {
		t.Fatalf("it tells %+v, want what begins at %d of %s", sc.torn, from, path)
	}
}

func TestChangedBitInTheFillIsToldAndLosesNothing(t *testing.T) {
	t.Parallel()
	dir, files, texts := crashed(t)
	for _, path := range files.paths() {
		from := framesEnd(files.files[path].data)
		for at := from; at < len(files.files[path].data); at++ {
			d := files.clone()
			d.files[path].data[at] ^= 1 << (at % 8)
			opensWith(t, d, dir, path, from, texts)
		}
	}
}

// TestLostPageIsNeverSilent puts zeros, or bytes of another file, in the place of pages of 64
// bytes, wherever they are, and of the end from a frame on: what was there is not there
// silently, and never other than it was.
func TestLostPageIsNeverSilent(t *testing.T) {
	t.Parallel()
	const page = 64
	dir, files, texts := crashed(t)
	paths := files.paths()
	for i, path := range paths {
		data := files.files[path].data
		from := framesEnd(data)
		begins := []int{bytes.LastIndex(data, []byte(frameMagic)), from}
		for begin := 0; begin < len(data); begin += page {
			begins = append(begins, begin)
		}
		for _, begin := range begins {
			for end := begin + page; end < len(data)+page; end += page {
				for _, old := range [][]byte{nil, files.files[paths[(i+1)%len(paths)]].data} {
					d := files.clone()
					lost := d.files[path].data[begin:min(end, len(data))]
					clear(lost)
					if begin < len(old) {
						copy(lost, old[begin:])
					}
					if isFill(lost) && begin >= from { // nothing has changed
						continue
					}
					_, c, sc, err := readBack(d, dir, filepath.Join(dir, "meta.db"))
					if err != nil {
						continue
					}
					if len(sc.torn) == 0 {
						t.Fatalf("bytes %d to %d of %s: nothing is told", begin, end, path)
					}
					if got := c.texts(); begin >= from && !slices.Equal(got, texts) {
						t.Fatalf("bytes %d to %d of %s: %q, want %q", begin, end, path, got, texts)
					}
					inOrder(t, c.texts(), texts)
				}
			}
		}
	}
}

// inOrder checks that texts has some of those of all, in order.
func inOrder(t *testing.T, texts, all []string) {
	t.Helper()
	for _, text := range texts {
		i := slices.Index(all, text)
		if i < 0 {
			t.Fatalf("%q was never written there", text)
		}
		all = all[i+1:]
	}
}

// TestFillInTheMiddleIsRefused: a page that was never written, though later ones were, is
// damage.
func TestFillInTheMiddleIsRefused(t *testing.T) {
	t.Parallel()
	dir, files, _ := crashed(t)
	for _, path := range files.paths() {
		data := files.files[path].data
		last := bytes.LastIndex(data, []byte(frameMagic))
		for at := headerSize; at < last; at++ {
			d := files.clone()
			for i := at; i < last; i++ {
				d.files[path].data[i] = fillByte
			}
			_, _, _, err := readBack(d, dir, filepath.Join(dir, "meta.db"))
			if damage, ok := errors.AsType[*DamageError](err); !ok || damage.Path != path || damage.Offset > int64(at) {
				t.Fatalf("fill from %d to %d of %s: %v", at, last, path, err)
			}
		}
	}
}

func TestFileCutShortInItsFillLosesNothing(t *testing.T) {
	t.Parallel()
	dir, files, texts := crashed(t)
	for _, path := range files.paths() {
		data := files.files[path].data
		for size := framesEnd(data); size <= len(data); size++ {
			d := files.clone()
			d.files[path].data = bytes.Clone(data[:size])
			_, c, sc, err := readBack(d, dir, filepath.Join(dir, "meta.db"))
			if err != nil || len(sc.torn) > 0 || !slices.Equal(c.texts(), texts) {
				t.Fatalf("cut to %d of %d: %q, %+v, %v", size, len(data), c.texts(), sc.torn, err)
			}
		}
	}
}

// TestFillIsRefusedWhereNoneCanBe: in a log that was closed, and where later segments follow.
func TestFillIsRefusedWhereNoneCanBe(t *testing.T) {
	t.Parallel()
	dir, files, texts := written(t, true)
	for _, path := range files.paths() {
		d := files.clone()
		d.files[path].data = append(d.files[path].data, fillByte, fillByte)
		damaged(t, d, dir, true, texts, "fill in "+path, 0)
	}
	dir = tempLog(t)
	l := openOn(t, testConfig(dir), newMemDisk())
	follow(t, l)
	appended(t, l, event("a", "1"))
	l.nextSegment()
	appended(t, l, event("a", "2"))
	l.crash()
	files = l.disk.(*memDisk)
	first := files.paths()[0]
	files.files[first].data = append(files.files[first].data, fillByte)
	if _, _, _, err := readBack(files, dir, filepath.Join(dir, "meta.db")); err == nil {
		t.Error("fill in a segment that is finished is accepted")
	}
}

// TestFillInPlaceOfWhatTheMarkHasIsRefused: meta.db knows how far the frames went.
func TestFillInPlaceOfWhatTheMarkHasIsRefused(t *testing.T) {
	t.Parallel()
	dir := tempLog(t)
	l := openFilling(t, testConfig(dir), disk{}, time.Now, 150, 300)
	follow(t, l)
	appended(t, l, event("a", "1"))
	appended(t, l, event("a", "2"))
	tidy(t, l)
	l.crash()
	files := newMemDisk()
	files.load(t, dir)
	path := files.paths()[0]
	data := files.files[path].data
	for i := bytes.LastIndex(data, []byte(frameMagic)); i < len(data); i++ {
		data[i] = fillByte
	}
	_, _, _, err := readBack(files, dir, filepath.Join(dir, "meta.db"))
	if damage, ok := errors.AsType[*DamageError](err); !ok || damage.Path != path {
		t.Errorf("got %v", err)
	}
}
