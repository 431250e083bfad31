//go:build !linux

package main

import (
	"fmt"
	"os"
	"runtime"
)

func main() {
	fmt.Fprintf(os.Stderr, "bench: Linux is needed, for epoll and /proc; this is %s\n", runtime.GOOS)
	os.Exit(1)
}
