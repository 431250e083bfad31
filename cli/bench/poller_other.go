//go:build !linux

package bench

import "errors"

// newPoller returns an error: here each stream is read by a goroutine.
func newPoller() (poller, error) { return nil, errors.ErrUnsupported }
