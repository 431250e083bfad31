package stream

import (
	"os"
	"syscall"
)

// pipePoll waits until the Go runtime has polled the network: it writes to a pipe
// and waits, in the runtime's poller, for the pipe to be readable.
type pipePoll struct {
	reader  *os.File
	raw     syscall.RawConn
	writeFD int
	written bool // in the current wait
	buffer  [1]byte
	step    func(fd uintptr) bool // p.poll: a method value for each wait would be allocated
}

func newNetworkPoll() networkPoll {
	var fds [2]int
	if err := syscall.Pipe2(fds[:], syscall.O_CLOEXEC|syscall.O_NONBLOCK); err != nil {
		return sleepPoll{} // there is no file descriptor left
	}
	p := &pipePoll{reader: os.NewFile(uintptr(fds[0]), "breather"), writeFD: fds[1]}
	var err error
	if p.raw, err = p.reader.SyscallConn(); err != nil {
		p.close()
		return sleepPoll{}
	}
	p.step = p.poll
	return p
}

// wait implements networkPoll.
func (p *pipePoll) wait() {
	p.written = false
	_ = p.raw.Read(p.step)
}

// poll is called when a wait begins, and then when the pipe may be readable. Only
// once the wait has begun it writes: what came before would not end it.
func (p *pipePoll) poll(fd uintptr) bool {
	if !p.written {
		p.written = true
		_, err := syscall.Write(p.writeFD, p.buffer[:])
		return err != nil
	}
	_, err := syscall.Read(int(fd), p.buffer[:])
	return err != syscall.EAGAIN
}

// close implements networkPoll.
func (p *pipePoll) close() {
	_ = p.reader.Close()
	_ = syscall.Close(p.writeFD)
}
