package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	launchdarkly "github.com/launchdarkly/eventsource"
	r3labs "github.com/r3labs/sse/v2"
	gosse "github.com/tmaxmax/go-sse"
)

// dispatch is one call of a client's callback.
type dispatch struct {
	Type, ID, Data string
	Note           string // what the client says beside that
	at             time.Time
}

// kind is a client that somebody wrote.
type kind struct {
	name string
	// endsForGood says that it does not come back after a proper end of the
	// response.
	endsForGood bool
	// takesHalves says that it takes what came of an event before a cut for all of
	// it, also of its id: then it comes back with a cursor that nobody gave, gets a
	// gap and all that is kept.
	takesHalves bool
	// follow follows a URL until ctx ends.
	follow func(ctx context.Context, at place, url string, heard func(dispatch)) error
}

// place is what clients need of this machine.
type place struct {
	dir     string // of the client's own
	modules string // node_modules
	pages   *pages // for browsers
}

// maxEvent is a buffer for the largest event that evstream takes: the default of
// r3labs and go-sse is 64 KiB, on which they are stuck for ever.
const maxEvent = 512 << 10

func kinds() []kind {
	return []kind{
		{name: "chromium", follow: browser("eventsource", chromium)},
		{name: "firefox", follow: browser("eventsource", firefox)},
		{name: "fetch-event-source", follow: browser("fetch", chromium), endsForGood: true},
		{name: "event-source-polyfill", follow: browser("polyfill", chromium)},
		{name: "npm-eventsource-3", follow: program("node", "node.mjs", "eventsource3")},
		{name: "npm-eventsource-4", follow: program("node", "node.mjs", "eventsource")},
		{name: "python-http.client", follow: program("python3", "stdlib.py")},
		{name: "python-requests-lines", follow: program(withRequests(), "withrequests.py", "lines")},
		{name: "python-requests-bytes", follow: program(withRequests(), "withrequests.py", "content")},
		{name: "curl", follow: program("bash", "curl.sh")},
		{name: "go-r3labs", follow: followR3labs, endsForGood: true, takesHalves: true},
		{name: "go-sse", follow: followGoSSE},
		{name: "go-launchdarkly", follow: followLaunchDarkly},
	}
}

// followR3labs reconnects as the library does by itself.
func followR3labs(ctx context.Context, _ place, url string, heard func(dispatch)) error {
	c := r3labs.NewClient(url, r3labs.ClientMaxBufferSize(maxEvent))
	c.Connection.Transport = &http.Transport{}
	return c.SubscribeRawWithContext(ctx, func(e *r3labs.Event) {
		heard(dispatch{Type: string(e.Event), ID: string(e.ID), Data: string(e.Data)})
	})
}

func followGoSSE(ctx context.Context, _ place, url string, heard func(dispatch)) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return err
	}
	c := gosse.Client{Backoff: gosse.Backoff{MaxInterval: 2 * time.Second}, HTTPClient: &http.Client{Transport: &http.Transport{}}}
	conn := c.NewConnection(req)
	conn.Buffer(make([]byte, 0, 4096), maxEvent)
	conn.SubscribeToAll(func(e gosse.Event) {
		heard(dispatch{Type: e.Type, ID: e.LastEventID, Data: e.Data})
	})
	return conn.Connect()
}

func followLaunchDarkly(ctx context.Context, _ place, url string, heard func(dispatch)) error {
	stream, err := launchdarkly.SubscribeWithURL(url,
		launchdarkly.StreamOptionHTTPClient(&http.Client{Transport: &http.Transport{}}),
		launchdarkly.StreamOptionErrorHandler(func(err error) launchdarkly.StreamErrorHandlerResult {
			heard(dispatch{Note: err.Error()})
			return launchdarkly.StreamErrorHandlerResult{}
		}))
	if err != nil {
		return err
	}
	defer stream.Close()
	for {
		select {
		case e, ok := <-stream.Events:
			if !ok {
				return nil
			}
			heard(dispatch{Type: e.Event(), ID: e.Id(), Data: e.Data()})
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// program runs one of the programs in other, which writes each dispatch as a line
// of JSON.
func program(name, file string, args ...string) func(context.Context, place, string, func(dispatch)) error {
	return func(ctx context.Context, at place, url string, heard func(dispatch)) error {
		script, err := filepath.Abs(filepath.Join("other", file))
		if err != nil {
			return err
		}
		cmd := command(ctx, at.dir, name, append([]string{script, url}, args...)...)
		cmd.Env = append(os.Environ(), "CLIENT_MODULES="+at.modules, "PYTHONUNBUFFERED=1")
		out, err := cmd.StdoutPipe()
		if err != nil {
			return err
		}
		cmd.Stderr = os.Stderr
		if err := cmd.Start(); err != nil {
			return err
		}
		lines := json.NewDecoder(out)
		for {
			var d dispatch
			if err := lines.Decode(&d); err != nil {
				break
			}
			heard(d)
		}
		if err := cmd.Wait(); err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		return nil
	}
}

// withRequests is a Python that has requests.
func withRequests() string {
	for _, name := range []string{"python3", "/usr/bin/python3"} {
		if exec.Command(name, "-c", "import requests").Run() == nil {
			return name
		}
	}
	return "python3" // it says what it lacks
}
