package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// recorded has an AI application behind it. Each block reads what its clients send.
const recorded = `{
	admin off
	persist_config off
	auto_https off
	grace_period 5s
}
http://%s {
	evstream /ai/chat* {
		record ai/{evstream.body.id}
		resume ai/{http.request.uri.path.2}
		allow anyone subscribe,publish ai/*
	}
	evstream /v1/responses* {
		record responses/{http.request.header.X-Run-Id}
		resume responses/{http.request.uri.path.2}
		allow anyone subscribe responses/*
	}
	@runs path_regexp ^/threads/[^/]+/runs(/[^/]+)?/stream$
	evstream @runs {
		record threads/{http.request.uri.path.1}
		resume threads/{http.request.uri.path.1}
		allow anyone subscribe threads/*
	}
	evstream /tanstack/chat {
		record tanstack/{http.request.header.X-Run-Id}
		resume tanstack/{http.request.uri.query.runId}
		allow anyone subscribe tanstack/*
	}
	evstream /plain/* {
		record plain/{http.request.uri.path.1}
		resume plain/{http.request.uri.path.1}
		allow anyone subscribe plain/*
	}
	reverse_proxy %s
}
`

// aiApplication answers as several kinds of applications. It sends the first events of an
// answer, and the others after a request for /rest.
type aiApplication struct {
	network *cutter
	rest    chan struct{}
	release func()

	mu    sync.Mutex
	asked map[string]int
}

func (a *aiApplication) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.URL.Path == "/rest":
		a.release()
	case r.URL.Path == "/cut":
		a.network.cut()
		a.network.mend()
	case r.Method == http.MethodPost:
		a.answer(w, r)
	case r.URL.Path == "/threads/thread-1/runs/run-1": // LangGraph's client looks whether the run goes on
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"run_id":"run-1","thread_id":"thread-1","status":"success"}`)
	default:
		http.Error(w, "the application is asked for what the hub has", http.StatusTeapot)
	}
}

func (a *aiApplication) answer(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	what := strings.Split(r.URL.Path, "/")[1]
	a.mu.Lock()
	a.asked[what]++
	a.mu.Unlock()
	w.Header().Set("Content-Type", "text/event-stream")
	switch what {
	case "ai":
		w.Header().Set("X-Vercel-Ai-Ui-Message-Stream", "v1")
	case "threads":
		w.Header().Set("Content-Location", "/threads/thread-1/runs/run-1")
		w.Header().Set("Location", "/threads/thread-1/runs/run-1/stream")
	}
	for i, event := range eventsOf(what) {
		if i == 6 {
			if bytes.Contains(body, []byte(`"dies"`)) {
				panic(http.ErrAbortHandler)
			}
			select {
			case <-a.rest:
			case <-r.Context().Done():
				return
			}
		}
		_, _ = io.WriteString(w, event)
		_ = http.NewResponseController(w).Flush()
	}
}

// eventsOf are the events of an answer that counts to ten.
func eventsOf(what string) (events []string) {
	counting := func(format string) {
		for n := range 10 {
			events = append(events, fmt.Sprintf(format, len(events), fmt.Sprintf("%d ", n+1)))
		}
	}
	add := func(format string) { events = append(events, fmt.Sprintf(format, len(events))) }
	switch what {
	case "ai":
		plain := func(data string) { events = append(events, "data: "+data+"\n\n") }
		plain(`{"type":"start","messageId":"answer-1"}`)
		plain(`{"type":"start-step"}`)
		plain(`{"type":"text-start","id":"1"}`)
		counting("data: {\"type\":\"text-delta\",\"id\":\"1\",\"delta\":%[2]q}\n\n")
		plain(`{"type":"text-end","id":"1"}`)
		plain(`{"type":"finish-step"}`)
		plain(`{"type":"finish"}`)
		plain(`[DONE]`)
	case "v1":
		const of = `,"item_id":"msg_1","output_index":0,"content_index":0`
		add("event: response.created\ndata: {\"type\":\"response.created\",\"sequence_number\":%d,\"response\":{\"id\":\"resp_1\",\"status\":\"queued\",\"output\":[]}}\n\n")
		add("event: response.in_progress\ndata: {\"type\":\"response.in_progress\",\"sequence_number\":%d,\"response\":{\"id\":\"resp_1\",\"status\":\"in_progress\",\"output\":[]}}\n\n")
		add("event: response.output_item.added\ndata: {\"type\":\"response.output_item.added\",\"sequence_number\":%d,\"output_index\":0,\"item\":{\"id\":\"msg_1\",\"type\":\"message\",\"role\":\"assistant\",\"content\":[]}}\n\n")
		add("event: response.content_part.added\ndata: {\"type\":\"response.content_part.added\",\"sequence_number\":%d" + of + ",\"part\":{\"type\":\"output_text\",\"text\":\"\",\"annotations\":[]}}\n\n")
		counting("event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"sequence_number\":%d" + of + ",\"delta\":%q}\n\n")
		add("event: response.output_text.done\ndata: {\"type\":\"response.output_text.done\",\"sequence_number\":%d" + of + ",\"text\":\"1 2 3 4 5 6 7 8 9 10 \"}\n\n")
		add("event: response.content_part.done\ndata: {\"type\":\"response.content_part.done\",\"sequence_number\":%d" + of + ",\"part\":{\"type\":\"output_text\",\"text\":\"1 2 3 4 5 6 7 8 9 10 \",\"annotations\":[]}}\n\n")
		add("event: response.output_item.done\ndata: {\"type\":\"response.output_item.done\",\"sequence_number\":%d,\"output_index\":0,\"item\":{\"id\":\"msg_1\",\"type\":\"message\",\"role\":\"assistant\",\"content\":[]}}\n\n")
		add("event: response.completed\ndata: {\"type\":\"response.completed\",\"sequence_number\":%d,\"response\":{\"id\":\"resp_1\",\"status\":\"completed\",\"output\":[]}}\n\n")
	case "threads":
		add("event: metadata\ndata: {\"run_id\":\"run-1\"}\nid: %d\n\n")
		counting("event: messages\ndata: [{\"type\":\"AIMessageChunk\",\"content\":%[2]q},{}]\nid: %[1]d\n\n")
		add("event: end\ndata:\nid: %d\n\n")
	case "plain":
		counting("data: %[2]q\n\n")
	case "tanstack":
		add("id: run-9@%d\ndata: {\"type\":\"RUN_STARTED\",\"threadId\":\"thread-1\",\"runId\":\"run-9\"}\n\n")
		add("id: run-9@%d\ndata: {\"type\":\"TEXT_MESSAGE_START\",\"messageId\":\"m1\",\"role\":\"assistant\"}\n\n")
		counting("id: run-9@%d\ndata: {\"type\":\"TEXT_MESSAGE_CONTENT\",\"messageId\":\"m1\",\"delta\":%q}\n\n")
		add("id: run-9@%d\ndata: {\"type\":\"TEXT_MESSAGE_END\",\"messageId\":\"m1\"}\n\n")
		add("id: run-9@%d\ndata: {\"type\":\"RUN_FINISHED\",\"threadId\":\"thread-1\",\"runId\":\"run-9\"}\n\n")
	}
	return events
}

// The parsers that applications have read what the hub replays: other/replay-*.mjs.
func TestParsersReadTheReplay(t *testing.T) {
	for _, c := range []struct {
		script, what string
		asked        int
	}{
		{"replay-ai", "ai", 2},
		{"replay-openai", "v1", 1},
		{"replay-langgraph", "threads", 1},
		{"replay-tanstack", "tanstack", 1},
		{"replay-plain", "plain", 1},
	} {
		t.Run(c.script, func(t *testing.T) {
			site, app := free(t), free(t)
			a := &aiApplication{network: newCutter(t, site), rest: make(chan struct{}), asked: map[string]int{}}
			a.release = sync.OnceFunc(func() { close(a.rest) })
			l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", app)
			if err != nil {
				t.Fatal(err)
			}
			server := &http.Server{Handler: a, ReadHeaderTimeout: time.Minute, ErrorLog: log.New(io.Discard, "", 0)}
			go func() { _ = server.Serve(l) }()
			t.Cleanup(func() { _ = server.Close() })
			runCaddy(t, fmt.Sprintf(recorded, site, app), site)
			script(t, c.script, "http://"+site, "http://"+app, "http://"+a.network.address)
			a.mu.Lock()
			defer a.mu.Unlock()
			if a.asked[c.what] != c.asked {
				t.Errorf("the application was asked %d times, not %d", a.asked[c.what], c.asked)
			}
		})
	}
}

// script runs one of other/*.mjs with node, beside the modules.
func script(t *testing.T, name string, args ...string) {
	t.Helper()
	modules, err := filepath.Abs("../bin/clients/node_modules")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS("other")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(modules, filepath.Join(dir, "node_modules")); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	cmd := command(ctx, dir, "node", append([]string{name + ".mjs"}, args...)...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%s: %v\n%s", name, err, out)
	}
}
