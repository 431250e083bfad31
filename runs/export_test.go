package runs

import (
	"context"

	"github.com/evstream/caddy-evstream/broker"
)

// NoticeOf is the notice that says that there is a run.
func NoticeOf(r *Run) (*broker.Notice, error) {
	data, _, err := r.text()
	return &broker.Notice{About: FactPrefix + r.Channel, Fact: true, Data: data, ID: r.version}, err
}

// Bury is what a node does that knows of a run whose owner is gone.
func (t *Table) Bury(ctx context.Context, r *Run) error { return t.bury(ctx, r) }

// Write writes a run to the log of a table, as its owner does.
func Write(ctx context.Context, t *Table, r *Run) error { return t.rewrite(ctx, r) }
