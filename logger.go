package evstream

import (
	"context"
	"log/slog"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap/exp/zapslog"
)

// logger is for what outlives a configuration, whose own loggers are closed when
// it is replaced.
var logger = slog.New(processHandler{derive: func(h slog.Handler) slog.Handler { return h }})

// processHandler passes each record to Caddy's current default log.
type processHandler struct {
	derive func(slog.Handler) slog.Handler // adds the attributes and groups
}

func (h processHandler) current() slog.Handler {
	const noTraces = slog.Level(127)
	return h.derive(zapslog.NewHandler(caddy.Log().Core(),
		zapslog.WithName("evstream"), zapslog.AddStacktraceAt(noTraces)))
}

func (h processHandler) Enabled(ctx context.Context, level slog.Level) bool {
	return h.current().Enabled(ctx, level)
}

func (h processHandler) Handle(ctx context.Context, r slog.Record) error {
	return h.current().Handle(ctx, r)
}

func (h processHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return processHandler{func(to slog.Handler) slog.Handler { return h.derive(to).WithAttrs(attrs) }}
}

func (h processHandler) WithGroup(name string) slog.Handler {
	return processHandler{func(to slog.Handler) slog.Handler { return h.derive(to).WithGroup(name) }}
}
