package e2e

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/evstream/caddy-evstream/internal/redistest"
)

// TestValuesThatTwoNodesSetAtOnceConverge: nodes that only told each other what
// they have set would differ for good, because each would hear the other's value
// last.
func TestValuesThatTwoNodesSetAtOnceConverge(t *testing.T) {
	t.Parallel()
	shared := redistest.Start(t)
	var nodes []*watched
	for range 2 {
		s := start(t, nodeFile("address "+shared.Addr()))
		w := &watcher{url: plainH1.url(s, "/live/at-once/*"), client: plainH1.client(t), values: map[string]string{}}
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			w.run(ctx)
		}()
		t.Cleanup(func() {
			cancel()
			<-ended
		})
		nodes = append(nodes, &watched{s, w})
	}
	const rounds = 50
	for round := range rounds {
		set, created := fmt.Sprintf("at-once/set-%d", round%5), fmt.Sprintf("at-once/created-%d", round)
		statuses := make([]int, len(nodes))
		var wg sync.WaitGroup
		for i, n := range nodes {
			wg.Go(func() {
				value := fmt.Sprint(round*len(nodes) + i + 1)
				if status, err := put(n.server, set, value); err != nil || status != http.StatusOK && status != http.StatusCreated {
					t.Errorf("setting a value: %d, %v", status, err)
				}
				var err error
				if statuses[i], err = put(n.server, created, value, "If-None-Match", "*"); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		slices.Sort(statuses)
		if !slices.Equal(statuses, []int{http.StatusCreated, http.StatusPreconditionFailed}) {
			t.Fatalf("two that create a value are answered %v", statuses)
		}
		for _, name := range []string{set, created} {
			first, tag, err := valueAt(nodes[0].server, name, "no-cache")
			if err != nil || first == "" || tag == "" {
				t.Fatalf("%s is %q, %q: %v", name, first, tag, err)
			}
			for i, n := range nodes {
				value, other, err := valueAt(n.server, name, "no-cache")
				if err != nil || value != first || other != tag {
					t.Fatalf("%s is %s, %s at node 0, and %s, %s at node %d: %v", name, first, tag, value, other, i, err)
				}
				eventually(t, fmt.Sprintf("a reader at node %d is told that %s is %s", i, name, first), func() bool {
					return n.watcher.value(name) == first
				})
			}
		}
	}
	// This is the last change: all before it were told.
	if status, err := put(nodes[0].server, "at-once/end", "true"); err != nil || status != http.StatusCreated {
		t.Fatalf("%d, %v", status, err)
	}
	for i, n := range nodes {
		eventually(t, "the end", func() bool { return n.watcher.value("at-once/end") == "true" })
		for name, told := range n.watcher.all() {
			if value, _, err := valueAt(n.server, name, ""); err != nil || value != told {
				t.Errorf("a reader at node %d was told last that %s is %s, and it is %s: %v", i, name, told, value, err)
			}
		}
	}
}

// watched is a node with a reader of its values.
type watched struct {
	server  *server
	watcher *watcher
}

// put sets a value, and returns the status of the answer.
func put(s *server, name, value string, header ...string) (status int, err error) {
	r, err := http.NewRequest(http.MethodPut, plainH1.url(s, "/live/"+name), strings.NewReader(value)) //nolint:noctx // the client has a timeout
	if err != nil {
		return 0, err
	}
	for pair := range slices.Chunk(header, 2) {
		r.Header.Set(pair[0], pair[1])
	}
	answer, err := values.Do(r)
	if err != nil {
		return 0, err
	}
	defer answer.Body.Close()
	_, err = io.Copy(io.Discard, answer.Body)
	return answer.StatusCode, err
}
