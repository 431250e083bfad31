//go:build !linux

package stream

func newNetworkPoll() networkPoll { return sleepPoll{} }
