package redisadapter

import (
	"testing"

	"github.com/evstream/caddy-evstream/broker"
	"github.com/evstream/caddy-evstream/broker/logtest"
	"github.com/evstream/caddy-evstream/internal/redistest"
)

func TestLogMeetsTheContract(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	logtest.Run(t, logtest.Harness{
		Open: func(t *testing.T) broker.Log {
			return openLog(t, logConfig(server, t))
		},
		Reopen: func(t *testing.T, log broker.Log) broker.Log {
			if err := log.Close(); err != nil {
				t.Fatal(err)
			}
			return openLog(t, logConfig(server, t))
		},
	})
}
