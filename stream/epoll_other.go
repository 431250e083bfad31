//go:build !linux

package stream

import "errors"

// newPoller says that this system has nothing to detach streams with.
func newPoller() (poller, error) { return nil, errors.ErrUnsupported }
