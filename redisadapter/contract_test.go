package redisadapter

import (
	"sync"
	"testing"

	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/broker/logtest"
	"github.com/evstream/caddy-evstream/internal/redistest"
)

// harness makes logs for the contract. Each reaches the server that config names
// through a proxy of its own.
func harness(config func(t *testing.T) Config) logtest.Harness {
	var mu sync.Mutex
	proxies := map[broker.Log]*redistest.Proxy{}
	open := func(t *testing.T) broker.Log {
		cfg := config(t)
		proxy := redistest.StartProxy(t, cfg.Addresses[0])
		cfg.Addresses = []string{proxy.Addr()}
		log := openLog(t, cfg)
		log.intervals = quickIntervals
		mu.Lock()
		defer mu.Unlock()
		proxies[log] = proxy
		return log
	}
	return logtest.Harness{
		Open: open,
		Reopen: func(t *testing.T, log broker.Log) broker.Log {
			if err := log.Close(); err != nil {
				t.Fatal(err)
			}
			return open(t)
		},
		Join: func(t *testing.T, _ broker.Log) broker.Log { return open(t) },
		Cut: func(_ *testing.T, log broker.Log) (heal func()) {
			mu.Lock()
			defer mu.Unlock()
			proxy := proxies[log]
			proxy.Cut()
			return proxy.Heal
		},
	}
}

func TestLogMeetsTheContract(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	logtest.Run(t, harness(func(t *testing.T) Config { return logConfig(server, t) }))
}
