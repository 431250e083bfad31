//go:build !linux

package stream

import "errors"

// newPoller returns errors.ErrUnsupported: streams are detached on Linux only.
func newPoller() (poller, error) { return nil, errors.ErrUnsupported }
