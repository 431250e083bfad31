package redistest

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
)

// forking is held while a process is started, which for a moment has a copy of
// every connection, so that the other side does not see that one is closed.
var forking sync.RWMutex

// process is a program that runs.
type process struct {
	*os.Process
	exited chan struct{} // closed when it has ended, and err is set
	err    error
}

// run starts a program in a directory, and appends its output to a file there.
func run(dir, output, program string, args ...string) (*process, error) {
	file, err := os.OpenFile(filepath.Join(dir, output), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600) //nolint:gosec // the directory is of the test
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(program, args...) //nolint:gosec // tests say what runs
	cmd.Dir = dir
	cmd.Stdout, cmd.Stderr = file, file
	cmd.SysProcAttr = mortal()

	p := &process{exited: make(chan struct{})}
	started := make(chan error, 1)
	go func() {
		// A mortal process dies with this thread, which must live as long as the
		// process.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		forking.Lock()
		err := cmd.Start()
		forking.Unlock()
		_ = file.Close()
		p.Process = cmd.Process
		started <- err
		if err == nil {
			p.err = cmd.Wait()
			close(p.exited)
		}
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	return p, nil
}

// running reports whether it has not ended. A nil process has.
func (p *process) running() bool {
	if p == nil {
		return false
	}
	select {
	case <-p.exited:
		return false
	default:
		return true
	}
}

// kill ends it at once.
func (p *process) kill() {
	if p.running() {
		_ = p.Kill()
		<-p.exited
	}
}
