package boltadapter

import (
	"bufio"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// call is a system call of a recorded process. The others that ran meanwhile are between
// its begin and its end.
type call struct {
	name  string
	args  []string
	ret   int64 // below 0: it failed
	begin int   // the position in the recording
	end   int
}

// recordedCalls are all that change files or make them durable, and those that tell which
// file is meant.
const recordedCalls = "open,openat,creat,close,dup,dup2,dup3,lseek," +
	"write,writev,pwrite64,pwritev,pwritev2,sendfile,copy_file_range,mmap," +
	"ftruncate,truncate,fallocate,fsync,fdatasync,sync_file_range,msync," +
	"rename,renameat,renameat2,link,linkat,symlink,symlinkat,unlink,unlinkat,rmdir,mkdir,mkdirat"

// record runs cmd under strace, and returns what it did.
func recordCalls(t *testing.T, cmd *exec.Cmd) []call {
	t.Helper()
	strace, err := exec.LookPath("strace")
	if err != nil {
		t.Fatal("strace records what is written, and is not installed: scripts/setup.sh does that")
	}
	out := filepath.Join(t.TempDir(), "calls")
	args := []string{strace, "-f", "-qq", "-xx", "-s", "100000000", "-e", "signal=none", "-e", "trace=" + recordedCalls, "-o", out, "--"}
	cmd.Path, cmd.Args = strace, append(args, cmd.Args...)
	if said, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, said)
	}
	calls, err := readCalls(out)
	if err != nil {
		t.Fatal(err)
	}
	return calls
}

var (
	wholeCall  = regexp.MustCompile(`(?s)^(\d+) +(\w+)\((.*)\) += (-?\d+|0x[0-9a-f]+|\?)`)
	begunCall  = regexp.MustCompile(`(?s)^(\d+) +(\w+)\((.*) <unfinished \.\.\.>$`)
	ended      = regexp.MustCompile(`^(\d+) +<\.\.\. (\w+) resumed>.*\) += (-?\d+|0x[0-9a-f]+|\?)`)
	errUnknown = errors.New("a line of the recording is not understood")
)

func readCalls(path string) (calls []call, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	lines := bufio.NewReaderSize(f, 1<<20)
	under := map[string]int{} // by thread, the index of the call that has not ended
	for n := 0; ; n++ {
		line, err := lines.ReadString('\n')
		if line == "" {
			return calls, nil
		}
		if err != nil {
			return nil, err
		}
		line = strings.TrimSuffix(line, "\n")
		add := func(m []string, ret string, end int) {
			calls = append(calls, call{name: m[2], args: strings.Split(m[3], ", "), ret: returned(ret), begin: n, end: end})
		}
		if m := wholeCall.FindStringSubmatch(line); m != nil {
			add(m, m[4], n)
		} else if m := begunCall.FindStringSubmatch(line); m != nil {
			under[m[1]] = len(calls)
			add(m, "?", 1<<62)
		} else if m := ended.FindStringSubmatch(line); m != nil {
			c := &calls[under[m[1]]]
			if c.name != m[2] || c.end != 1<<62 {
				return nil, fmt.Errorf("%w: %.200s", errUnknown, line)
			}
			c.ret, c.end = returned(m[3]), n
		} else if !strings.Contains(line, "+++ ") && !strings.Contains(line, "--- ") {
			return nil, fmt.Errorf("%w: %.200s", errUnknown, line)
		}
	}
}

func returned(text string) int64 {
	n, err := strconv.ParseInt(text, 0, 64)
	if err != nil {
		return -1
	}
	return n
}

func (c *call) number(i int) int64 { return returned(c.args[i]) }

// text is an argument that is text, which the recording has in hexadecimal digits.
func (c *call) text(i int) []byte {
	s := strings.ReplaceAll(strings.Trim(c.args[i], `"`), `\x`, "")
	b, err := hex.DecodeString(s)
	if err != nil {
		panic(fmt.Sprintf("%s: argument %d of %s is %.100s", err, i, c.name, c.args[i]))
	}
	return b
}
