package redisadapter

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"log/slog"
	"sync"

	"github.com/evstream/caddy-evstream/broker"
)

// Log is a broker.Log in Redis. Open makes one.
type Log struct {
	node    string
	keys    keys
	logger  *slog.Logger
	applied applied
	queue   queue
	maxKeys int // idempotency keys
	clients clients

	standing   standing
	membership membership
	readers    readers
	syncs      syncs
	intervals  intervals

	// ctx ends with Close, which then waits for tasks: all goroutines that the
	// log has.
	ctx    context.Context
	cancel context.CancelFunc
	tasks  sync.WaitGroup

	mu     sync.Mutex
	config Config
	closed bool
}

// Open returns a Log, which is cfg's until Reconfigure. Redis need not be there
// yet. A nil logger is slog.Default.
func Open(cfg Config, logger *slog.Logger) (*Log, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if logger == nil {
		logger = slog.Default()
	}
	var node [8]byte
	_, _ = rand.Read(node[:]) // never fails: it ends the process instead
	l := &Log{
		node:      hex.EncodeToString(node[:]),
		keys:      newKeys(cfg.Prefix),
		logger:    logger,
		maxKeys:   maxKeys,
		config:    cfg,
		readers:   newReaders(),
		intervals: defaultIntervals,
	}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	l.queue.init()
	l.clients.open(&cfg)
	l.tasks.Go(l.commit)
	return l, nil
}

// Node implements broker.Cluster.
func (l *Log) Node() string { return l.node }

// Reconfigure changes what the log signs in with, its TLS, what it waits for and
// its bounds, for what comes after. What is on its way ends as it began.
// Another log, by its addresses, database or prefix, needs another Log.
func (l *Log) Reconfigure(cfg Config) error {
	if err := cfg.Validate(); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.closed:
		return broker.ErrClosed
	case !l.config.sameLog(&cfg):
		return errors.New("the addresses, the database and the prefix of a log in Redis cannot be changed: open another log")
	}
	l.config = cfg
	l.clients.open(&cfg)
	return nil
}

// cfg is the configuration now.
func (l *Log) cfg() Config {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.config
}

// Close implements broker.Log. What waits to be stored is not, with ErrClosed;
// of what is on its way to Redis the outcome is unknown.
func (l *Log) Close() error {
	l.mu.Lock()
	first := !l.closed
	l.closed = true
	l.mu.Unlock()
	if first {
		l.cancel()
		l.queue.close()
		l.standing.waitLeft()
		l.clients.close()
	}
	l.tasks.Wait()
	return nil
}

// isClosed reports whether Close was called.
func (l *Log) isClosed() bool { return l.ctx.Err() != nil }

var (
	_ broker.Log     = (*Log)(nil)
	_ broker.Cluster = (*Log)(nil)
)
