package nettest

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// sharedAddress is an address on which two sockets of a process listen, or "".
// See proc_net(5) and proc_pid_fd(5).
func sharedAddress(pid int) (string, error) {
	process := fmt.Sprintf("/proc/%d", pid)
	inodes, err := sockets(process)
	if err != nil {
		return "", err
	}
	seen := make(map[string]bool)
	for _, table := range []string{"tcp", "tcp6"} {
		lines, err := os.ReadFile(filepath.Join(process, "net", table)) //nolint:gosec // a file of the kernel
		if errors.Is(err, fs.ErrNotExist) {                             // a kernel without IPv6
			continue
		}
		if err != nil {
			return "", err
		}
		for line := range strings.Lines(string(lines)) {
			const address, state, inode = 1, 3, 9
			fields := strings.Fields(line)
			if len(fields) <= inode || fields[state] != "0A" || !inodes[fields[inode]] {
				continue
			}
			if seen[fields[address]] {
				return fields[address], nil
			}
			seen[fields[address]] = true
		}
	}
	return "", nil
}

// sockets are the inodes of a process's sockets.
func sockets(process string) (map[string]bool, error) {
	files, err := os.ReadDir(filepath.Join(process, "fd"))
	if err != nil {
		return nil, err
	}
	inodes := make(map[string]bool)
	for _, file := range files {
		target, err := os.Readlink(filepath.Join(process, "fd", file.Name()))
		if err != nil { // it was closed meanwhile
			continue
		}
		if inode, ok := strings.CutPrefix(target, "socket:["); ok {
			inodes[strings.TrimSuffix(inode, "]")] = true
		}
	}
	return inodes, nil
}
