package redistest

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// doomed is set for a test process that is to be killed.
const doomed = "REDISTEST_DOOMED"

func TestServersDieWithTheTestProcess(t *testing.T) {
	t.Parallel()
	const says = "servers: "
	if os.Getenv(doomed) != "" {
		plain, paused := Start(t), Start(t)
		paused.Pause()
		fmt.Println(says + plain.Addr() + " " + paused.Addr())
		select {}
	}

	cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.timeout=1m")
	cmd.Env = append(os.Environ(), doomed+"=1", "TMPDIR="+t.TempDir())
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = mortal()
	out, err := cmd.StdoutPipe()
	if err == nil {
		forking.Lock()
		err = cmd.Start()
		forking.Unlock()
	}
	if err != nil {
		t.Fatal(err)
	}
	var addrs []string
	for lines := bufio.NewScanner(out); addrs == nil && lines.Scan(); {
		if list, ok := strings.CutPrefix(lines.Text(), says); ok {
			addrs = strings.Fields(list)
		}
	}
	cmd.Process.Kill()
	cmd.Wait()
	if len(addrs) != 2 {
		t.Fatalf("the process says of its servers %q", addrs)
	}
	for _, addr := range addrs {
		eventually(t, addr+" to refuse", func() bool {
			conn, err := net.DialTimeout("tcp", addr, time.Second)
			if err == nil {
				conn.Close()
			}
			return err != nil
		})
	}
}
