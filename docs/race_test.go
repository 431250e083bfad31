//go:build race

package docs

func init() { buildFlags = append(buildFlags, "-race") }
