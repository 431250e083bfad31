package redisadapter

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"log/slog"
	"sync"

	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/internal/backlog"
)

// Log is a broker.Log and a broker.Cluster in Redis. Open makes one. Its methods are
// safe for concurrent use.
type Log struct {
	node    string
	keys    keys
	logger  *slog.Logger
	applied applied
	queue   *backlog.Queue[*pending]
	maxKeys int // idempotency keys
	clients clients

	standing   standing
	membership membership
	readers    readers
	syncs      syncs
	room       room
	figures    figures
	intervals  intervals

	// ctx ends with Close, which then waits for tasks: the goroutines that the
	// log itself has started.
	ctx    context.Context
	cancel context.CancelFunc
	tasks  sync.WaitGroup

	mu     sync.Mutex
	config Config
	closed bool
}

// Open returns a Log with cfg. It does not connect: Redis may be started later.
// A nil logger is slog.Default. The caller must Close the Log.
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
	l.queue = newQueue()
	l.clients.open(&cfg)
	l.tasks.Go(l.commit)
	return l, nil
}

// Node implements broker.Cluster.
func (l *Log) Node() string { return l.node }

// Reconfigure changes credentials, TLS, the replicas to wait for and the bounds.
// Commands that are under way finish with the former ones. It is safe for
// concurrent use. The addresses, the database and the prefix cannot be changed:
// another log needs another Log.
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

// cfg returns the current configuration.
func (l *Log) cfg() Config {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.config
}

// Close implements broker.Log. An Append that waits for its turn fails with
// ErrClosed; the outcome of one that was sent to Redis is unknown.
func (l *Log) Close() error {
	l.mu.Lock()
	first := !l.closed
	l.closed = true
	l.mu.Unlock()
	if first {
		l.cancel()
		l.queue.Close()
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
