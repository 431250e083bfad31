//go:build race

package floors

func init() { buildFlags = append(buildFlags, "-race") }
