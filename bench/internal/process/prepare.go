// Package process builds and runs a Caddy that is measured, and tells what it uses.
package process

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
)

// Build builds the Caddy of this repository, whose root is the working directory, as a file.
func Build(ctx context.Context, file string) error {
	build := exec.CommandContext(ctx, "go", "build", "-o", file, "./cmd/caddy") //nolint:gosec // a name of its own
	build.Stderr = os.Stderr
	if err := build.Run(); err != nil {
		return fmt.Errorf("building Caddy: %w", err)
	}
	return nil
}

// Free finds an address that nobody listens on.
func Free(ctx context.Context) (string, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}
