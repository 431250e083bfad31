package broker

import "github.com/evstream/caddy-evstream/channel"

// Names of package channel, for callers that have not moved to it yet.

// Pattern is channel.Pattern.
type Pattern = channel.Pattern

// ErrName is channel.ErrName.
var ErrName = channel.ErrName

// CheckName is channel.Check.
func CheckName(s string) error { return channel.Check(s) }

// CheckTarget is channel.CheckTarget.
func CheckTarget(s string) error { return channel.CheckTarget(s) }

// IsBeneath is channel.IsBeneath.
func IsBeneath(s string) bool { return channel.IsBeneath(s) }

// IsPattern is channel.IsPattern.
func IsPattern(s string) bool { return channel.IsPattern(s) }

// ParsePattern is channel.ParsePattern.
func ParsePattern(s string) (Pattern, error) { return channel.ParsePattern(s) }
