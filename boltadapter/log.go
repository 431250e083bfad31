package boltadapter

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/internal/backlog"
	"github.com/evstream/caddy-evstream/internal/errkind"
)

// Log is a broker.Log on the disk. New and Open make one. Its methods are safe for
// concurrent use.
//
// Locks are taken in this order: upkeep, committing, mu. The committer holds committing
// while it decides, writes and applies, so that nobody sees half of a commit; upkeep is
// of whoever works on meta.db, removes segments or reads them all. mu is held for moments
// only.
type Log struct {
	disk    fileSystem
	path    string
	logger  *slog.Logger
	now     func() time.Time
	config  atomic.Pointer[Config]
	queue   *backlog.Queue[*pending]
	ctx     context.Context // ends with Close
	cancel  context.CancelFunc
	tasks   sync.WaitGroup
	phase   atomic.Int32
	opened  chan struct{} // closed when Start has succeeded
	closes  sync.Once
	backups atomic.Int32 // that are being made
	loading loading
	closed  error         // of Close
	kick    chan struct{} // receives when there is something for upkeep to do

	upkeep sync.Mutex // guards what follows
	db     *bolt.DB
	mark   mark   // as it is in meta.db
	marked uint64 // when, in milliseconds

	committing sync.Mutex // guards what follows
	identity   identity
	born       broker.ID
	decider    *broker.Decider
	out        broker.Decisions
	parts      []*part
	filler     filler
	commits    uint64
	rules      uint64
	mixed      broker.ID
	owners     map[string]broker.Owner // of values
	dirty      map[string]struct{}     // names of values that changed since the mark
	removed    removedNames
	follower   broker.Follower
	noSync     bool // something was written without a sync since the mark

	mu     sync.Mutex // guards what follows
	chains map[broker.Policy]*chain
	size   int64 // of all segments
	failed error // why nothing is stored any more
	full   error // why the last commit was refused, most often for want of room; nil if it was not
	lacked int   // the bytes of that commit
	stats  counters
	dbSize int64 // of meta.db
	dbFree int64 // of it, what holds nothing
}

// The phases of a Log.
const (
	phaseNew int32 = iota
	phaseOpen
	phaseClosed
)

// New returns a Log with cfg. It does not touch the disk: Start does. Until then, Follow
// waits and Append returns broker.ErrLoading. The caller must Close the Log.
func New(cfg Config) (*Log, error) { return newLog(cfg, disk{}, time.Now) }

func newLog(cfg Config, files fileSystem, now func() time.Time) (*Log, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	path, err := filepath.Abs(cfg.Path)
	if err != nil {
		return nil, err
	}
	l := &Log{
		disk: files, path: path, logger: cfg.Logger, now: now,
		opened: make(chan struct{}),
		kick:   make(chan struct{}, 1),
		chains: map[broker.Policy]*chain{},
		owners: map[string]broker.Owner{},
		dirty:  map[string]struct{}{},
		filler: newFiller(),
	}
	if l.logger == nil {
		l.logger = slog.Default()
	}
	l.config.Store(&cfg)
	l.out.Details = true
	l.queue = newQueue()
	l.ctx, l.cancel = context.WithCancel(context.Background())
	return l, nil
}

// Open is New and Start.
func Open(cfg Config) (*Log, error) {
	l, err := New(cfg)
	if err != nil {
		return nil, err
	}
	if err := l.Start(); err != nil {
		_ = l.Close()
		return nil, err
	}
	return l, nil
}

// Reconfigure changes the times of syncs and the bounds. The path cannot be changed:
// another directory needs another Log.
func (l *Log) Reconfigure(cfg Config) error {
	if err := cfg.Validate(); err != nil {
		return err
	}
	old := l.config.Load()
	if !old.sameLog(&cfg) {
		return errors.New("the directory of a log on the disk cannot be changed: open another log")
	}
	if l.phase.Load() == phaseClosed {
		return broker.ErrClosed
	}
	l.config.Store(&cfg)
	l.kickUpkeep()
	return nil
}

// KeepsByPolicy implements broker.ByPolicy.
func (l *Log) KeepsByPolicy() {}

// failedError is told after a fault of the disk, beside broker.ErrUnavailable.
func failedError(cause error) error {
	return fmt.Errorf("%w: %w: %w", errDisk, broker.ErrUnavailable, cause)
}

var errDisk = errkind.Opaque("unavailable", "log", "the disk of the log failed: nothing is stored until the server is started again")

// Start opens the files of the log, and takes the lock on the directory. It must be called
// once. With an error nothing is open.
func (l *Log) Start() (err error) {
	if l.phase.Load() != phaseNew {
		return errors.New("a log can be started only once")
	}
	began := time.Now()
	l.upkeep.Lock()
	defer l.upkeep.Unlock()
	defer func() {
		if err != nil {
			err = fmt.Errorf("opening the log in %s: %w", l.path, err)
			if errors.Is(err, fs.ErrPermission) && os.Geteuid() >= 0 {
				err = fmt.Errorf("%w (the user that runs the server, of the number %d, must own all that is in it)", err, os.Geteuid())
			}
			if l.db != nil {
				_ = l.db.Close()
				l.db = nil
			}
		}
	}()
	if err := l.openMeta(); err != nil {
		return err
	}
	ld, sc, err := l.readAll()
	if err != nil {
		return err
	}
	if err := errors.Join(sc.cut(), sc.settle(), l.removeLeft()); err != nil {
		return err
	}
	for _, t := range sc.torn {
		l.logger.Warn("the end of a file of the log was not whole, and is removed: it was being written when the process or the machine stopped",
			slog.String("file", t.Path), slog.Int64("offset", t.From), slog.Int64("bytes", t.Size))
	}
	l.adopt(ld, sc)
	l.mark.Clean, l.mark.NoSync = false, l.config.Load().NoSync
	if err := update(l.db, func(tx *bolt.Tx) error { return putJSON(tx, rowMark, l.mark) }); err != nil {
		return err
	}
	if l.measure(); l.dbFree > l.dbSize/2 && l.dbSize > minCompact {
		if err := l.compact(); err != nil { // it is large, and whole
			l.logger.Warn("meta.db of the log could not be compacted", slog.String("path", l.path), slog.Any("error", err))
		}
	}
	if l.mark.NoSync {
		l.logger.Warn("the log does not sync: when the machine stops, events are lost that were acknowledged", slog.String("path", l.path))
	}
	l.mu.Lock()
	l.stats.opened = time.Since(began)
	l.mu.Unlock()
	if !l.phase.CompareAndSwap(phaseNew, phaseOpen) {
		return broker.ErrClosed
	}
	l.tasks.Go(l.commitLoop)
	l.tasks.Go(l.upkeepLoop)
	close(l.opened)
	return nil
}

func (l *Log) metaPath() string { return filepath.Join(l.path, "meta.db") }

// readAll reads meta.db and all segments.
func (l *Log) readAll() (*loaded, *scan, error) {
	if _, err := loadFile(l.metaPath()); err != nil {
		return nil, nil, err
	}
	var err error
	if l.db, err = openDB(l.metaPath(), false, false); err != nil {
		return nil, nil, err
	}
	ld, err := load(l.db) // with the lock
	if err != nil {
		return nil, nil, err
	}
	sc := &scan{disk: l.disk, root: l.path, identity: ld.identity, mark: ld.mark, now: l.now()}
	return ld, sc, sc.run()
}

// Close implements broker.Log. An Append that waits for its turn fails with
// broker.ErrClosed.
func (l *Log) Close() error {
	l.closes.Do(func() {
		was := l.phase.Swap(phaseClosed)
		l.cancel()
		l.queue.Close()
		l.tasks.Wait()
		if was == phaseOpen {
			l.closed = l.closeFiles()
		}
	})
	return l.closed
}

// closeFiles writes the last mark, unless the disk has failed.
func (l *Log) closeFiles() error {
	l.upkeep.Lock()
	defer l.upkeep.Unlock()
	var err error
	if l.failure() == nil {
		l.committing.Lock()
		err = l.trimAll() // before the mark says that this is all
		l.committing.Unlock()
		if err == nil {
			err = l.checkpoint(true)
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range l.chains {
		err = errors.Join(err, c.close())
	}
	return errors.Join(err, l.db.Close())
}

func (l *Log) failure() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.failed
}

// fail notes that nothing can be stored any more, and tells the follower. Log.committing
// is held.
func (l *Log) fail(err error) {
	l.mu.Lock()
	first := l.failed == nil
	if first {
		l.failed = failedError(err)
	}
	failed := l.failed
	l.mu.Unlock()
	if !first {
		return
	}
	l.queue.Fail(failed)
	if l.follower != nil {
		l.follower.Cut(fmt.Errorf("the disk of the log failed, and nothing is stored any more until the log is opened anew: %w", err))
	} else {
		l.logger.Error("the disk of the log failed: nothing is stored any more until the log is opened anew", slog.Any("error", err))
	}
}

var (
	_ broker.Log      = (*Log)(nil)
	_ broker.ByPolicy = (*Log)(nil)
)

// adopt takes in what was read.
func (l *Log) adopt(ld *loaded, sc *scan) {
	l.committing.Lock()
	defer l.committing.Unlock()
	l.identity, l.born, l.mark = ld.identity, ld.born, ld.mark
	l.decider = broker.NewDecider(ld.mark.issued(later(sc.last, ld.born)), 0)
	l.commits, l.rules, l.mixed = sc.commit, sc.rules, sc.mixed
	l.removed.forgot = ld.mark.Forgot.id()
	for _, r := range sortedRemovals(ld.removed) {
		l.removed.add(r.name, r.id)
	}
	for name, v := range ld.values {
		l.decider.LoadState(name, v.State)
		if v.owner != 0 {
			l.owners[name] = v.owner
		}
	}
	for i := range sc.changes {
		c := &sc.changes[i]
		if c.entry.State == nil {
			l.decider.LoadWritten(c.written)
			l.dirty[c.written.Channel] = struct{}{}
			continue
		}
		if c.entry.ID.After(l.decider.State(c.entry.Channel).Version) {
			l.decider.LoadEntry(&c.entry)
			l.changed(&c.entry)
		}
	}
	slices.SortStableFunc(sc.closes, func(a, b change) int { return a.entry.ID.Compare(b.entry.ID) })
	for i := range sc.closes {
		l.decider.LoadClosed(&sc.closes[i].entry)
	}
	slices.SortStableFunc(sc.keys, func(a, b loadedKey) int { return a.key.At.Compare(b.key.At) })
	for i := range sc.keys {
		l.decider.LoadKey(sc.now, sc.keys[i].key)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range sc.chains {
		l.chains[c.policy] = c
		for _, s := range c.segments {
			l.size += s.end
		}
	}
}

// sortedRemovals are removals, oldest first.
func sortedRemovals(byName map[string]broker.ID) []removedName {
	list := make([]removedName, 0, len(byName))
	for name, id := range byName {
		list = append(list, removedName{name, id})
	}
	slices.SortFunc(list, func(a, b removedName) int { return a.id.Compare(b.id) })
	return list
}

// measure notes the size of meta.db. Log.upkeep is held.
func (l *Log) measure() {
	size, free := dbSizes(l.db, l.metaPath())
	l.mu.Lock()
	defer l.mu.Unlock()
	l.dbSize, l.dbFree = size, free
}
