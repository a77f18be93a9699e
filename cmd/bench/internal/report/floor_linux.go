package report

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// floorAnswerHead is what every connection is sent at its first bytes, so that
// the same clients can be used.
const floorHead = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\nevent: connected\ndata: {}\n\n"

// floorLoop is the floor's one thread.
type floorLoop struct {
	epoll, listener int
	streams         []int        // descriptors that were answered
	fresh           map[int]bool // descriptors that were not
	buffer          []byte
	stdout          io.Writer
}

// RunFloor serves until standard input ends. The floor must be a process of its
// own, because its CPU time is what is measured.
func RunFloor(stdout io.Writer) error {
	signal.Ignore(syscall.SIGQUIT) // sent when the parent dies; then the input ends too
	runtime.LockOSThread()
	f := &floorLoop{fresh: map[int]bool{}, buffer: make([]byte, 64<<10), stdout: stdout}
	if err := f.listen(); err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	for {
		task, err := f.wait(-1)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil && task != nil {
			err = f.send(*task)
		}
		if err != nil {
			return err
		}
	}
}

// listen makes the sockets and says where.
func (f *floorLoop) listen() (err error) {
	if f.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return err
	}
	if f.listener, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0); err != nil {
		return err
	}
	if err := unix.Bind(f.listener, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		return err
	}
	if err := unix.Listen(f.listener, 4096); err != nil {
		return err
	}
	name, err := unix.Getsockname(f.listener)
	if err != nil {
		return err
	}
	address, ok := name.(*unix.SockaddrInet4)
	if !ok {
		return errors.New("the socket has another family")
	}
	for _, fd := range []int{f.listener, int(os.Stdin.Fd())} {
		if err := f.watch(fd, unix.EPOLLIN); err != nil {
			return err
		}
	}
	return json.NewEncoder(f.stdout).Encode(floorAnswer{Address: netip.AddrPortFrom(netip.AddrFrom4(address.Addr), uint16(address.Port)).String()})
}

func (f *floorLoop) watch(fd int, events uint32) error {
	return unix.EpollCtl(f.epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: events, Fd: int32(fd)})
}

// wait serves what is ready once; it returns a task when one came, and io.EOF
// after the last.
func (f *floorLoop) wait(timeout time.Duration) (*floorTask, error) {
	events := make([]unix.EpollEvent, 256)
	milliseconds := -1
	if timeout >= 0 {
		milliseconds = int((timeout + time.Millisecond - 1) / time.Millisecond)
	}
	n, err := unix.EpollWait(f.epoll, events, milliseconds)
	if err != nil && !errors.Is(err, unix.EINTR) {
		return nil, fmt.Errorf("wait: %w", err)
	}
	var task *floorTask
	for _, e := range events[:max(0, n)] {
		switch fd := int(e.Fd); fd {
		case f.listener:
			if err := f.accept(); err != nil {
				return nil, err
			}
		case int(os.Stdin.Fd()):
			n, err := unix.Read(fd, f.buffer)
			if err != nil || n == 0 {
				return nil, io.EOF
			}
			task = new(floorTask)
			if err := json.NewDecoder(bytes.NewReader(f.buffer[:n])).Decode(task); err != nil {
				return nil, fmt.Errorf("read a task: %w", err)
			}
		default:
			f.read(fd)
		}
	}
	return task, nil
}

func (f *floorLoop) accept() error {
	for {
		fd, _, err := unix.Accept4(f.listener, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
		if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.ECONNABORTED) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("accept: %w", err)
		}
		f.fresh[fd] = true
		if err := f.watch(fd, unix.EPOLLIN|unix.EPOLLRDHUP); err != nil {
			return fmt.Errorf("watch: %w", err)
		}
	}
}

// read answers a connection's first bytes and drops one that has ended.
func (f *floorLoop) read(fd int) {
	n, err := unix.Read(fd, f.buffer)
	switch {
	case errors.Is(err, unix.EAGAIN):
	case err != nil || n == 0:
		unix.Close(fd) // its place in streams is not taken again: floors only grow
	case f.fresh[fd]:
		delete(f.fresh, fd)
		f.streams = append(f.streams, fd)
		_, _ = unix.Write(fd, []byte(floorHead)) // it fits; else the client sees it
	}
}

// send carries a task out.
func (f *floorLoop) send(t floorTask) error {
	frame := "event: notification\ndata: \n\n"
	event := []byte("event: notification\ndata: " + strings.Repeat("x", max(0, t.Bytes-len(frame))) + "\n\n")
	began := time.Now()
	sent := 0
	for burst := 0; sent < t.Events; burst++ {
		for {
			left := time.Until(began.Add(time.Duration(burst) * t.Every))
			if left <= 0 {
				break
			}
			if _, err := f.wait(left); err != nil {
				return err
			}
		}
		for range min(t.Burst, t.Events-sent) {
			if n, err := unix.Write(f.streams[rand.N(len(f.streams))], event); err != nil || n < len(event) {
				return fmt.Errorf("a client does not read: %d bytes, %w", n, err)
			}
			sent++
		}
	}
	return json.NewEncoder(f.stdout).Encode(floorAnswer{Sent: sent, Took: time.Since(began)})
}
