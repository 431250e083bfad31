//go:build !linux

package main

import (
	"fmt"
	"os"
	"runtime"
)

func main() {
	fmt.Fprintf(os.Stderr, "floods: Linux is needed, for /proc; this is %s\n", runtime.GOOS)
	os.Exit(1)
}
