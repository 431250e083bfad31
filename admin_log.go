package evstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"

	"github.com/evstream/caddy-evstream/boltadapter"
	"github.com/evstream/caddy-evstream/problem"
)

// What the admin endpoint does with a log on the disk, beside what the HTTP API does.
const (
	backupPath  = adminMount + "/_backup"  // GET: a consistent copy, as a tar archive
	compactPath = adminMount + "/_compact" // POST
)

// diskLog is a log that is kept on the disk of this machine.
type diskLog interface {
	Stats() boltadapter.Stats
	Backup(ctx context.Context, w io.Writer) error
	Compact() error
}

// nameHolder is the error of a log that cannot be opened: if another broker of this process
// has it, which is mostly one of the configuration that runs, its name is said.
func nameHolder(h *openHub, err error) error {
	log, ok := h.log.(diskLog)
	if !ok || !errors.Is(err, boltadapter.ErrLocked) {
		return err
	}
	is, gone := os.Stat(log.Stats().Path)
	for _, other := range hubs.all() {
		held, ok := other.log.(diskLog)
		if !ok || other == h || gone != nil {
			continue
		}
		if there, err := os.Stat(held.Stats().Path); err == nil && os.SameFile(is, there) {
			return fmt.Errorf("broker %q has the directory %s open: to rename a broker, or to give its directory to another one, stop Caddy and start it again", other.Name(), log.Stats().Path)
		}
	}
	return err
}

// serveLog answers a request for the log of a broker. It is false if the path is none of
// those.
func serveLog(w http.ResponseWriter, r *http.Request, name string, hub *openHub) bool {
	method, do := http.MethodGet, backUp
	switch r.URL.Path {
	case backupPath:
	case compactPath:
		method, do = http.MethodPost, compact
	default:
		return false
	}
	log, ok := hub.log.(diskLog)
	switch {
	case !ok:
		answerProblem(w, problem.NotFound.Because("broker %q has no log on the disk of this machine: adapter bolt keeps one", name))
	case r.Method != method:
		w.Header().Set("Allow", method)
		answerProblem(w, problem.BadMethod.Because("%s takes %s, not %s", r.URL.Path, method, r.Method))
	default:
		do(w, r, name, log)
	}
	return true
}

// backUp answers with a copy of the log. When it fails in the midst, the connection is
// cut, so that nobody takes a part for the whole.
func backUp(w http.ResponseWriter, r *http.Request, name string, log diskLog) {
	w.Header().Set("Content-Type", "application/x-tar")
	w.Header().Set("Content-Disposition", `attachment; filename="evstream-`+name+`.tar"`)
	w.Header().Set("Cache-Control", "no-store")
	out := &began{ResponseController: http.NewResponseController(w), to: w}
	err := log.Backup(r.Context(), out)
	switch {
	case err == nil:
	case !out.began:
		w.Header().Del("Content-Disposition")
		answerProblem(w, logProblem(err))
	default:
		logger.Error("a backup of the log was cut off", slog.String("broker", name), slog.Any("error", err))
		panic(http.ErrAbortHandler)
	}
}

// began is a Writer that knows whether something was written.
type began struct {
	*http.ResponseController // for its deadlines
	to                       io.Writer
	began                    bool
}

// Write implements io.Writer.
func (b *began) Write(p []byte) (int, error) {
	b.began = true
	return b.to.Write(p)
}

// compaction is the answer of compact: the sizes of the file, in bytes.
type compaction struct {
	Before int64 `json:"before"`
	After  int64 `json:"after"`
}

// compact gives the disk back what the file of values does not use.
func compact(w http.ResponseWriter, _ *http.Request, _ string, log diskLog) {
	before := log.Stats().MetaBytes
	if err := log.Compact(); err != nil {
		answerProblem(w, logProblem(err))
		return
	}
	body, _ := json.Marshal(compaction{before, log.Stats().MetaBytes}) // these types never fail
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_, _ = w.Write(append(body, '\n'))
}

// logProblem is the problem of an error of the log. An operator gets all of its text.
func logProblem(err error) *problem.Error {
	if problem.Declared(err) != "" {
		return problem.Of(err)
	}
	return problem.Internal.Because("%w", err)
}
