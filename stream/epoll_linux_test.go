package stream

import (
	"sync"
	"syscall"
	"testing"
	"time"
)

// An epoll event of a closed connection must not reach the connection that has
// its descriptor now.
func TestNewsOfAnEarlierConnectionIsIgnored(t *testing.T) {
	site := newTCPSite(t, Options{})
	client := site.open("/a")
	k := client.session.detached.Load()
	l := k.conn.(*tcpConn)
	l.poller.dispatch(&syscall.EpollEvent{Events: syscall.EPOLLHUP, Fd: l.fd, Pad: l.number - 1})
	client.expect(site.publish("a", "1"))
	l.poller.dispatch(&syscall.EpollEvent{Events: syscall.EPOLLHUP, Fd: l.fd, Pad: l.number})
	site.ended(client.session, ReasonClient)
}

// hangupChan is a watcher that receives a value on a hang-up.
type hangupChan chan struct{}

func (hangupChan) onWritable() {}

func (h hangupChan) onHangup() {
	select {
	case h <- struct{}{}:
	default: // there is one already
	}
}

// A watch may be stopped after its descriptor has become another connection's.
func TestForgettingAnEarlierConnectionLeavesTheLaterOneWatched(t *testing.T) {
	poller, err := newPoller()
	if err != nil {
		t.Fatal(err)
	}
	p := poller.(*epoll)
	var running sync.WaitGroup
	running.Go(p.run)
	defer running.Wait()
	defer p.close()
	pair := func() [2]int {
		fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			_ = syscall.Close(fds[0])
			_ = syscall.Close(fds[1])
		})
		return fds
	}
	earlier, later := pair(), pair()
	fd := int32(earlier[0])
	var first, second int32
	if err := p.add(fd, make(hangupChan, 1), &first); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Dup3(later[0], earlier[0], syscall.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	told := make(hangupChan, 1)
	if err := p.add(fd, told, &second); err != nil {
		t.Fatal(err)
	}
	(&epollWatch{poller: p, fd: fd, number: first}).stop()
	if err := syscall.Shutdown(later[1], syscall.SHUT_RDWR); err != nil {
		t.Fatal(err)
	}
	select {
	case <-told:
	case <-time.After(patience):
		t.Error("the later connection's end is not told")
	}
}
