//go:build !unix

package bench

import "time"

// cpuTime returns 0: it is not known here.
func cpuTime() time.Duration { return 0 }

// openFiles returns 0: it is not known here.
func openFiles() uint64 { return 0 }
