package e2e

import (
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/internal/redistest"
)

// Three nodes share a log in Redis, to which all kinds of faults happen while
// events are published and read. After each fault is checked that every reader has
// what Redis has, in its order and once, and that the nodes agree on every value.
//
//	make faults
//
// makes each fault last for 30 s, with 300 subscribers, 2,000 events a second and
// no race detector. That takes about twelve minutes; FAULT=5s is shorter. In
// `make test` all of this is smaller, and there is the race detector.

// scale is the size of the load.
type scale struct {
	fault       time.Duration // how long a fault lasts, at least
	subscribers int
	rate        int // publishes a second
	increments  int // of values, a second
}

// faultEnv is the environment variable with the length of a fault, for the full
// scale.
const faultEnv = "EVSTREAM_FAULT"

func scaleOf(t testing.TB) scale {
	t.Helper()
	text := os.Getenv(faultEnv)
	if text == "" {
		return scale{fault: time.Second, subscribers: 45, rate: 150, increments: 30}
	}
	d, err := time.ParseDuration(text)
	if err != nil || d <= 0 {
		t.Fatalf("%s is how long each fault is to last, such as 30s, not %q", faultEnv, text)
	}
	return scale{fault: d, subscribers: 300, rate: 2000, increments: 200}
}

// besideOthers runs a test in parallel with others, except at the full scale, where
// each is measured alone.
func besideOthers(t *testing.T) {
	if os.Getenv(faultEnv) == "" {
		t.Parallel()
	}
}

const (
	someNodes = 3
	prefix    = "evstream:e2e" // of the keys in Redis
)

var (
	// deliversWithin is how soon every node must have noticed a fault, and must
	// deliver again after its end.
	deliversWithin = measuredAlone(5 * time.Second)
	// answersWithin bounds the time of every answer to a writer.
	answersWithin = measuredAlone(8 * time.Second)
	// quietAtMost bounds the time without a byte on a stream. The heartbeat is 1 s.
	quietAtMost = measuredAlone(4 * time.Second)
)

// measuredAlone is a bound of the full scale, where nothing else runs. Beside other tests
// it is how long a test waits for what must happen.
func measuredAlone(bound time.Duration) time.Duration {
	if os.Getenv(faultEnv) == "" {
		return patience
	}
	return bound
}

// cluster is three nodes that share a log, with their readers and writers.
type cluster struct {
	scale scale
	redis redis.UniversalClient // the current primary
	nodes []*server
	http  *http.Client // of the writers

	subscribers []*subscriber
	probes      []*subscriber // one at each node, which stays there
	watchers    []*watcher    // likewise

	numbers atomic.Int64   // the number of the newest event
	since   broker.ID      // all up to this was checked
	counts  map[string]int // the values at the last check
	report  []string
}

// nodeFile is the Caddyfile of a node. The histories can hold all that is published
// while a node is cut off.
func nodeFile(adapter string) string {
	return `{
	admin {{admin}}
	persist_config off
	evstream {
		adapter redis {
			prefix   ` + prefix + `
			max_size 2GiB
			live_age 10m
			` + adapter + `
		}
		history 500000 1h 128MiB
		channel west/* {
			history 400000 1h 128MiB
		}
		max_history 4GiB
	}
}
http://{{plain}} {
	evstream /live/* {
		allow anyone subscribe,publish,state **
		heartbeat 1s
		retry 50ms 150ms
	}
}
`
}

// startCluster runs three nodes, each with its own configuration of the adapter,
// and subscribers of each.
func startCluster(t *testing.T, client redis.UniversalClient, adapters [someNodes]string) *cluster {
	t.Helper()
	c := &cluster{scale: scaleOf(t), redis: client, http: manyRequests(t), counts: map[string]int{}}
	for _, adapter := range adapters {
		c.nodes = append(c.nodes, start(t, nodeFile(adapter)))
	}
	c.subscribe(t)
	return c
}

// TestNodesThatShareARedisLoseNothingToFaults has faults of one Redis, and of the
// connections of each node to it.
func TestNodesThatShareARedisLoseNothingToFaults(t *testing.T) {
	besideOthers(t)
	secret := filepath.Join(t.TempDir(), "password")
	rewrite := func(password string) {
		if err := os.WriteFile(secret, []byte(password), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	rewrite("first")
	server := redistest.Start(t, redistest.AppendOnly(), redistest.Password("first"))
	var proxies []*redistest.Proxy
	var adapters [someNodes]string
	for i := range adapters {
		proxies = append(proxies, redistest.StartProxy(t, server.Addr()))
		adapters[i] = fmt.Sprintf("address %s\n\t\t\tpassword {file.%s}", proxies[i].Addr(), secret)
	}
	c := startCluster(t, patient(t, server.Options()), adapters)
	one := &lone{c, server, proxies}
	c.suffer(t, fault{name: "none", begin: nothing})
	for _, f := range one.faults(rewrite) {
		c.suffer(t, f)
	}
	c.fourth(t, adapters[0])
	c.conclude(t)
}

// TestNodesFollowAPrimaryThatSentinelsReplace has failovers, of which one loses
// what was acknowledged.
func TestNodesFollowAPrimaryThatSentinelsReplace(t *testing.T) {
	besideOthers(t)
	watched := redistest.StartSentinel(t, redistest.AppendOnly())
	adapter := "address " + strings.Join(watched.SentinelAddrs(), " ") + "\n\t\t\tsentinel " + redistest.MasterName
	options := watched.Options()
	options.MaxRetries = 5
	client := redis.NewFailoverClient(options)
	t.Cleanup(func() { _ = client.Close() })
	c := startCluster(t, client, [someNodes]string{adapter, adapter, adapter})
	for _, f := range failovers(watched) {
		c.suffer(t, f)
	}
	c.conclude(t)
}

// TestNodesFollowASlotThroughACluster moves the keys of the log from one master
// to another.
func TestNodesFollowASlotThroughACluster(t *testing.T) {
	besideOthers(t)
	many := redistest.StartCluster(t, someNodes, 0, redistest.AppendOnly())
	adapter := "address " + strings.Join(many.Addrs(), " ") + "\n\t\t\tcluster"
	options := many.Options()
	options.MaxRetries = 5
	client := redis.NewClusterClient(options)
	t.Cleanup(func() { _ = client.Close() })
	c := startCluster(t, client, [someNodes]string{adapter, adapter, adapter})
	for _, f := range migrations(many) {
		c.suffer(t, f)
	}
	c.conclude(t)
}

// patient makes a client that retries where a connection was lost. It is for
// commands that change nothing.
func patient(t *testing.T, o *redis.Options) *redis.Client {
	o.MaxRetries = 5
	client := redis.NewClient(o)
	t.Cleanup(func() { _ = client.Close() })
	return client
}

// suffer begins and ends a fault while there is traffic, and then checks what all
// readers have got.
func (c *cluster) suffer(t *testing.T, f fault) {
	t.Run(f.name, func(t *testing.T) {
		all := c.flow(t)
		all.warm(t)
		c.longestQuiet() // begins anew

		begun := time.Now()
		end := f.begin(t, c)
		noticed := c.noticed(t, f.stale, begun)
		rest(c.scale.fault - time.Since(begun))
		if f.shows != nil {
			within(patience, func() bool { return f.shows(all) })
		}
		end(t)
		recovered := c.recovered(t)
		quiet := c.longestQuiet()
		if quiet > quietAtMost {
			t.Errorf("a stream was without a byte for %s", quiet)
		}
		if f.repair != nil {
			f.repair()
		}
		all.stop()

		r := c.check(t, f, all)
		r.noticed, r.recovered, r.quiet = noticed, recovered, quiet
		line := fmt.Sprintf("%-25s %s", f.name, r)
		t.Log(line)
		c.report = append(c.report, line)
	})
}

// rest waits while a fault lasts.
func rest(d time.Duration) {
	if d > 0 {
		<-time.After(d)
	}
}

// conclude logs the report.
func (c *cluster) conclude(t *testing.T) {
	t.Logf("%d subscribers, %d publishes a second, faults of %s:\n%s\n%s",
		c.scale.subscribers, c.scale.rate, c.scale.fault, columns, strings.Join(c.report, "\n"))
}

// fourth starts one more node, and compares what it serves with what Redis has.
func (c *cluster) fourth(t *testing.T, adapter string) {
	t.Run("a fourth node", func(t *testing.T) {
		s := start(t, nodeFile(adapter))
		truth := c.truth(t, broker.ID{})
		want := truth.of("east/*", "west/*")
		r := open(t, plainH1.client(t), plainH1.url(s, "/live/?channel=east/*&channel=west/*&since=earliest"))
		for i, e := range want {
			got := r.must(t)
			if id, _ := broker.ParseID(got.ID); id != e.id || digest(got.Data) != e.sum {
				t.Fatalf("event %d of %d is %s %q, in Redis it is %s", i, len(want), got.ID, got.Data, e)
			}
		}
		for _, name := range slices.Sorted(maps.Keys(c.counts)) {
			c.agree(t, append(slices.Clone(c.nodes), s), name, 0)
		}
	})
}
