package redisadapter

import (
	"testing"
	"time"
)

// What is promised holds by these times, however long a machine takes for the rest.
func TestTimesAreThoseThatArePromised(t *testing.T) {
	for what, tt := range map[string]struct{ is, most time.Duration }{
		"until a publish fails":            {attemptTimeout, 5 * time.Second},
		"until it fails again":             {patience, 2 * time.Second},
		"until a dead connection is found": {linkPatience + tailWait, 5 * time.Second},
		"until a dead node is gone":        {defaultIntervals.lease + defaultIntervals.fresh, 10 * time.Second},
		"until a beat has failed":          {defaultIntervals.beat + beatTimeout, 5 * time.Second},
	} {
		if tt.is > tt.most {
			t.Errorf("%s it takes %s, not %s", what, tt.is, tt.most)
		}
	}
}
