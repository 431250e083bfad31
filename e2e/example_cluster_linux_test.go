package e2e

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/evstream/caddy-evstream/internal/redistest"
)

// whatever is published to the matches.
const matches = "/live/?channel=football/*&channel=cricket/*"

func TestTheExampleOfSeveralNodesGoesOnWhenOneDies(t *testing.T) {
	t.Parallel()
	base := redistest.FreePorts(t, 0, 1, 2, 3, 11, 12, 13, 20)
	said := new(logged)
	script := exec.Command("../examples/cluster/run.sh")
	script.Env = append(os.Environ(), "PORT="+strconv.Itoa(base), "CADDY="+caddyBinary, "GORACE=atexit_sleep_ms=50")
	script.Stdout, script.Stderr = said, said
	// A process group, so that all processes can be ended if the script fails.
	script.SysProcAttr = mortal()
	script.SysProcAttr.Setpgid = true
	if err := script.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- script.Wait() }()
	t.Cleanup(func() {
		_ = script.Process.Signal(syscall.SIGTERM)
		select {
		case <-ended:
		case <-time.After(patience):
			t.Error("the script does not end")
		}
		if err := syscall.Kill(-script.Process.Pid, syscall.SIGKILL); err == nil {
			t.Error("the script leaves processes behind")
		}
	})
	eventually(t, "the cluster is up", func() bool {
		if len(ended) > 0 {
			t.Fatalf("the script has ended:\n%s", said)
		}
		return said.contains("the scoreboard is at")
	})

	front := fmt.Sprint("http://localhost:", base)
	client := plainH1.client(t)
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	defer cancel()
	var ids, nodes []string
	for last := ""; len(nodes) < 3; {
		r, err := connect(ctx, client, front+matches+"&evs_last_event_id="+last)
		if err != nil {
			t.Fatal(err)
		}
		node := r.response.Header.Get("X-Node")
		if node == "" || slices.Contains(nodes, node) && len(nodes) < 2 {
			t.Fatalf("the stream is served by %q after %v", node, nodes)
		}
		nodes = append(nodes, node)
		for n := 0; ; n++ {
			e, err := r.events.Next()
			if err != nil {
				break
			}
			if e.Type == "evstream.gap" {
				t.Fatalf("a gap after %s: %s", last, e.Data)
			}
			if e.ID != "" {
				last = e.ID
			}
			if !strings.HasPrefix(e.Type, "evstream.") {
				ids = append(ids, e.ID)
			}
			if n == 12 {
				if len(nodes) == 3 {
					break
				}
				kill(t, said, node)
			}
		}
		_ = r.response.Body.Close()
	}
	if !slices.IsSorted(positions(t, ids)) {
		t.Errorf("the events came out of order: %v", ids)
	}
	// The remaining node has all of them, and no others in between.
	r, err := connect(ctx, client, "http://"+nodes[2]+matches+"&since=earliest")
	if err != nil {
		t.Fatal(err)
	}
	defer r.response.Body.Close()
	var want []string
	keys := map[string]bool{}
	for len(want) == 0 || want[len(want)-1] != ids[len(ids)-1] {
		e, err := r.events.Next()
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(e.Type, "evstream.") || len(want) == 0 && e.ID != ids[0] {
			continue
		}
		want = append(want, e.ID)
		second, _, _ := strings.Cut(e.ID, "-")
		key := second[:len(second)-3] + " " + e.Type + " " + string(e.Data)
		if keys[key] && e.Type != "snapshot" { // which each node publishes when it starts
			t.Errorf("two nodes have both published %s", key)
		}
		keys[key] = true
	}
	if !slices.Equal(ids, want) {
		t.Errorf("came through the front:\n%v\nthere is:\n%v", ids, want)
	}
}

// positions parses ids, to compare them.
func positions(t *testing.T, ids []string) []string {
	t.Helper()
	all := make([]string, len(ids))
	for i, id := range ids {
		ms, n, _ := strings.Cut(id, "-")
		all[i] = fmt.Sprintf("%s-%10s", ms, n)
	}
	return all
}

// kill ends the node at an address, the way the script tells its user.
func kill(t *testing.T, said *logged, node string) {
	t.Helper()
	line := regexp.MustCompile(`process ([0-9]+), at http://` + regexp.QuoteMeta(node))
	for s := bufio.NewScanner(strings.NewReader(said.String())); s.Scan(); {
		if found := line.FindStringSubmatch(s.Text()); found != nil {
			pid, _ := strconv.Atoi(found[1])
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
			return
		}
	}
	t.Fatalf("the script has not said which process %s is:\n%s", node, said)
}
