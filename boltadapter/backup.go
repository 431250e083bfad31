package boltadapter

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/internal/errkind"
)

// maxBackups bounds the backups that are made at a time, because each holds files open
// that may have been removed.
const maxBackups = 4

var errBackups = errkind.New("unavailable", "log", fmt.Sprintf("%d backups of the log are being made: wait for one of them, or end it", maxBackups))

// stallTime is how long a reader of a backup may read nothing.
const stallTime = time.Minute

// deadlines is a writer that can give up a Write that waits for its reader.
type deadlines interface {
	SetWriteDeadline(at time.Time) error
}

// impatient is the writer of a backup: its Write fails if it takes longer than stallTime, or
// the log is closed.
type impatient struct {
	io.Writer
	closed context.Context
}

// Write implements io.Writer.
func (w impatient) Write(p []byte) (int, error) {
	if d, ok := w.Writer.(deadlines); ok {
		if err := d.SetWriteDeadline(time.Now().Add(stallTime)); err != nil {
			return 0, err
		}
	}
	if w.closed.Err() != nil { // after the deadline was set: close sets another
		return 0, broker.ErrClosed
	}
	return w.Writer.Write(p)
}

// close has a Write that waits end.
func (w impatient) close() {
	if d, ok := w.Writer.(deadlines); ok {
		_ = d.SetWriteDeadline(time.Unix(1, 0)) // then it waits as long as it may
	}
}

// Backup writes a consistent copy of the log to w, as a tar archive that Restore reads:
// meta.db, and the segments as of now. A slow w holds up neither publishing nor upkeep,
// because meta.db is copied on the disk first, and segments only grow.
// There are four backups at a time at most. If w has the method SetWriteDeadline, as a
// connection has, the backup ends when a Write takes longer than a minute, and when the log
// is closed.
func (l *Log) Backup(ctx context.Context, w io.Writer) (err error) {
	if l.backups.Add(1) > maxBackups {
		l.backups.Add(-1)
		return errBackups
	}
	defer l.backups.Add(-1)
	files, err := l.snapshot()
	defer func() {
		for _, f := range files {
			_ = f.open.Close() // it was only read
			if f.spool == "" {
				continue
			}
			if gone := os.Remove(f.spool); gone != nil && !errors.Is(gone, fs.ErrNotExist) {
				err = errors.Join(err, gone)
			}
		}
	}()
	if err != nil {
		return fmt.Errorf("backing up the log: %w", err)
	}
	out := impatient{w, l.ctx}
	defer context.AfterFunc(l.ctx, out.close)()
	archive := tar.NewWriter(out)
	for _, f := range files {
		if err := ctx.Err(); err != nil {
			return err
		}
		h := &tar.Header{Name: f.name, Mode: 0o600, Size: f.size, ModTime: l.now(), Format: tar.FormatPAX}
		if err := archive.WriteHeader(h); err != nil {
			return err
		}
		if _, err := io.Copy(archive, io.NewSectionReader(f.open, 0, f.size)); err != nil {
			return err
		}
	}
	return archive.Close()
}

// copied is a file of a backup.
type copied struct {
	name string
	size int64
	open interface {
		io.ReaderAt
		io.Closer
	}
	spool string // the path of a copy, which is removed at the end; else ""
}

// snapshot copies meta.db, and opens the segments, which may be removed from then on.
func (l *Log) snapshot() (files []copied, err error) {
	l.upkeep.Lock() // no segment is removed between the copy and the opening
	defer l.upkeep.Unlock()
	if err := l.usable(); err != nil {
		return nil, err
	}
	meta, err := os.CreateTemp(l.path, spoolPrefix+"-*")
	if err != nil {
		return nil, err
	}
	files = append(files, copied{"meta.db", 0, meta, meta.Name()})
	if err := view(l.db, func(tx *bolt.Tx) (err error) {
		files[0].size, err = tx.WriteTo(meta)
		return err
	}); err != nil {
		return files, err
	}
	// Between commits, so that none is there by half.
	l.committing.Lock()
	l.mu.Lock()
	type place struct {
		path string
		size int64
	}
	var places []place
	for _, c := range l.chains {
		for _, s := range c.segments {
			places = append(places, place{s.path, s.size})
		}
	}
	l.mu.Unlock()
	l.committing.Unlock()
	slices.SortFunc(places, func(a, b place) int { return strings.Compare(a.path, b.path) })
	for _, p := range places {
		f, err := l.disk.Open(p.path)
		if err != nil {
			return files, err
		}
		name, err := filepath.Rel(l.path, p.path)
		if err != nil {
			return append(files, copied{open: f}), err
		}
		files = append(files, copied{name: filepath.ToSlash(name), size: p.size, open: f})
	}
	return files, nil
}

// Restore makes a log in the directory dir of a backup, and checks it. There must be
// nothing in dir. With an error there is nothing there, either.
func Restore(r io.Reader, dir string) (report Report, err error) {
	dir, err = filepath.Abs(dir)
	if err != nil {
		return report, err
	}
	if there, err := os.ReadDir(dir); err == nil && len(there) > 0 {
		return report, fmt.Errorf("%s is not empty: move it away first", dir)
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return report, err
	}
	part := dir + ".restore"
	if err := os.MkdirAll(filepath.Dir(dir), 0o700); err != nil {
		return report, err
	}
	if err := os.Mkdir(part, 0o700); errors.Is(err, fs.ErrExist) {
		return report, fmt.Errorf("%s is there, of another restore: if that does not run any more, remove it", part)
	} else if err != nil {
		return report, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(part))
		}
	}()
	n, err := unpack(r, part)
	switch {
	case errors.Is(err, tar.ErrHeader):
		return report, fmt.Errorf("this is no backup of a log: %w", err)
	case err != nil:
		return report, fmt.Errorf("reading the backup: %w", err)
	case n == 0:
		return report, errors.New("the backup is empty")
	}
	if report, err = Check(part); err != nil {
		return report, fmt.Errorf("the backup cannot be used: %w", err)
	}
	if len(report.Torn) > 0 { // a backup has only what was whole
		return report, fmt.Errorf("the backup cannot be used: %w", &DamageError{report.Torn[0].Path, report.Torn[0].From, "there is no whole frame"})
	}
	if err := noteRestored(part, &report); err != nil {
		return report, err
	}
	report.Path = dir
	if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return report, err
	}
	if err := os.Rename(part, dir); err != nil {
		return report, err
	}
	return report, disk{}.SyncDir(filepath.Dir(dir))
}

// noteRestored notes in the log of a backup that ids above its newest one, up to now, may
// be those of entries that are lost.
func noteRestored(dir string, report *Report) (err error) {
	last, ok := broker.ParseID(report.Last)
	if !ok {
		return fmt.Errorf("%q is no id", report.Last)
	}
	db, err := openDB(filepath.Join(dir, "meta.db"), false, false)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	return update(db, func(tx *bolt.Tx) error {
		var m mark
		if err := getJSON(tx, rowMark, &m); err != nil {
			return err
		}
		m.addVoid(m.issued(last), broker.ID{Ms: uint64(max(time.Now().UnixMilli(), 0)) + 1})
		return putJSON(tx, rowMark, m)
	})
}

// unpack writes the files of a backup into dir, durably, and returns how many there are.
func unpack(r io.Reader, dir string) (n int, err error) {
	archive := tar.NewReader(r)
	dirs := map[string]struct{}{dir: {}}
	if err := os.Mkdir(filepath.Join(dir, "segments"), 0o700); err != nil {
		return n, err
	}
	for {
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return n, err
		}
		if !isOfLog(h.Name) || h.Typeflag != tar.TypeReg {
			return n, fmt.Errorf("%q does not belong to a log", h.Name)
		}
		file := filepath.Join(dir, filepath.FromSlash(h.Name))
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			return n, err
		}
		dirs[filepath.Dir(file)], dirs[filepath.Dir(filepath.Dir(file))] = struct{}{}, struct{}{}
		f, err := os.OpenFile(filepath.Clean(file), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return n, err
		}
		n++
		_, err = io.Copy(f, archive) //nolint:gosec // an operator's own backup, as large as it is
		if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
			return n, err
		}
	}
	for dir := range dirs {
		if err := (disk{}).SyncDir(dir); err != nil {
			return n, err
		}
	}
	return n, nil
}

// isOfLog reports whether a file of a backup is one of a log.
func isOfLog(name string) bool {
	if name == "meta.db" {
		return true
	}
	parts := strings.Split(name, "/")
	if len(parts) != 3 || parts[0] != "segments" || path.Clean(name) != name || len(parts[1]) != 16 {
		return false
	}
	_, ok := segmentNumber(parts[2])
	return ok && !strings.ContainsAny(parts[1], `.\:`)
}

// Report is what a log has.
type Report struct {
	Path     string
	Chains   int // history policies that entries are kept by
	Segments int
	Entries  int
	Values   int   // and facts
	Bytes    int64 // of the segments
	Last     string
	Closed   bool   // it was closed, not killed
	Torn     []Torn // what opening it would remove
}

// Check reads every byte of a log that is not open, and changes nothing. The error is a
// *DamageError if a file is damaged.
func Check(dir string) (Report, error) {
	dir, err := filepath.Abs(dir)
	report := Report{Path: dir}
	if err != nil {
		return report, err
	}
	if _, err := os.Stat(filepath.Join(dir, "meta.db")); err != nil {
		return report, fmt.Errorf("%s has no log: %w", dir, err)
	}
	ld, err := loadFile(filepath.Join(dir, "meta.db"))
	if errors.Is(err, ErrLocked) {
		return report, fmt.Errorf("%s: %w (stop it first, or check a backup of it)", dir, err)
	}
	if err != nil {
		return report, err
	}
	sc := &scan{disk: readOnly{}, root: dir, identity: ld.identity, mark: ld.mark, now: time.Now()}
	if err := sc.run(); err != nil {
		return report, err
	}
	values := map[string]bool{}
	for name := range ld.values {
		values[name] = true
	}
	for i := range sc.changes {
		if e := &sc.changes[i].entry; e.State != nil {
			values[e.Channel] = e.State.Value != nil
		}
	}
	for _, has := range values {
		if has {
			report.Values++
		}
	}
	report.Last, report.Closed, report.Torn = sc.last.String(), ld.mark.Clean, sc.torn
	for _, c := range sc.chains {
		report.Chains++
		for _, s := range c.segments {
			report.Segments++
			report.Entries += s.entries
			report.Bytes += s.size
		}
	}
	return report, nil
}
