package hub

import (
	"strings"
	"testing"

	"github.com/evstream/caddy-evstream/broker"
)

func TestABurstThatIsLeftOutIsWhatTwoSecondsBring(t *testing.T) {
	for _, tt := range []struct{ given, want Rate }{
		{Rate{PerSecond: 100}, Rate{PerSecond: 100, Burst: 200}},
		{Rate{PerSecond: 0.1}, Rate{PerSecond: 0.1, Burst: 1}},
		{Rate{PerSecond: 5, Burst: 7}, Rate{PerSecond: 5, Burst: 7}},
		{Rate{Unlimited: true}, Rate{Unlimited: true}},
	} {
		c := Config{PublishRate: tt.given}
		if err := c.fill(); err != nil || c.PublishRate != tt.want {
			t.Errorf("%+v becomes %+v, %v", tt.given, c.PublishRate, err)
		}
	}
}

func TestImpossibleRatesAreRefused(t *testing.T) {
	for _, r := range []Rate{{Burst: 5}, {PerSecond: -1}, {PerSecond: 1, Burst: -1}} {
		log := broker.NewMemory()
		if _, err := Open(log, Config{PublishBytes: r}); err == nil || !strings.Contains(err.Error(), "PublishBytes must be above 0") {
			t.Errorf("%+v: %v", r, err)
		}
		if err := log.Close(); err != nil {
			t.Error(err)
		}
	}
}
