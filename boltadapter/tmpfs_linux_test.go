package boltadapter

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/evstream/caddy-evstream/broker"
)

// smallDisk mounts a file system of 8 MiB, until the test ends. That takes the rights of
// root: who has them not gets them in a user namespace of its own, where the test runs once
// more, and ok is false here.
func smallDisk(t *testing.T) (dir string, ok bool) {
	t.Helper()
	if os.Geteuid() != 0 {
		again := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$")
		again.SysProcAttr = &syscall.SysProcAttr{
			Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
			UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
			GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
		}
		if said, err := again.CombinedOutput(); err != nil {
			t.Fatalf("as root of a user namespace: %v\n%s", err, said)
		}
		return "", false
	}
	dir = t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=8m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir, true
}

// TestDiskThatIsReallyFullRefusesAndRecovers fills a small file system of its own.
func TestDiskThatIsReallyFullRefusesAndRecovers(t *testing.T) {
	t.Parallel()
	dir, ok := smallDisk(t)
	if !ok {
		return
	}
	l := openLog(t, testConfig(filepath.Join(dir, "log")))
	c := follow(t, l)
	appended(t, l, set("v", "0"))
	ballast := filepath.Join(dir, "ballast")
	if err := os.WriteFile(ballast, make([]byte, 4<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	data := strings.Repeat("x", 100_000)
	stored, refused := 0, 0
	for i := range 100 {
		_, err := l.Append(t.Context(), []broker.Op{event("a", fmt.Sprint(i, data)), set("v", fmt.Sprint(i))})
		switch {
		case err == nil:
			stored++
		case errors.Is(err, broker.ErrFull):
			refused++
		default:
			t.Fatal(err)
		}
		if i%10 == 9 {
			if err := l.round(); err != nil && !isFull(err) {
				t.Fatal(err)
			}
		}
	}
	if stored == 0 || refused == 0 || l.Stats().Failed != nil {
		t.Fatalf("%d were stored, %d refused: %v", stored, refused, l.Stats().Failed)
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	appended(t, l, event("a", "room again"))
	tidy(t, l)
	want := c.texts()
	l.crash()
	l = openLog(t, testConfig(l.path))
	if got := follow(t, l).texts(); !slices.Equal(got, want) {
		t.Errorf("%d entries, want %d", len(got), len(want))
	}
}

// TestLogOnAReadOnlyFileSystemIsCheckedAndNotOpened makes such a file system.
func TestLogOnAReadOnlyFileSystemIsCheckedAndNotOpened(t *testing.T) {
	t.Parallel()
	dir, ok := smallDisk(t)
	if !ok {
		return
	}
	path := filepath.Join(dir, "log")
	l := openLog(t, testConfig(path))
	fill(t, l, 3)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("", dir, "", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	if r, err := Check(path); err != nil || r.Entries != 9 {
		t.Errorf("checked %+v, %v", r, err)
	}
	for _, path := range []string{path, filepath.Join(dir, "new")} {
		if _, err := Open(testConfig(path)); !errors.Is(err, syscall.EROFS) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", path, err)
		}
	}
}
