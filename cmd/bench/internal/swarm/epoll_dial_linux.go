package swarm

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

const (
	streamsPerSource = 7000 // keeps the kernel's search for a free port short
	silentBuffer     = 4096 // bytes that the kernel receives for a stream which never reads
)

// connect begins as many connections as may be under way.
func (c *epollClients) connect() {
	for len(c.waiting) > 0 && c.inFlight < c.begin.InFlight {
		i := c.waiting[0]
		c.waiting = c.waiting[1:]
		if err := c.dial(i); err != nil {
			c.fail(i, &c.counts.Failed, err.Error())
		}
	}
}

func (c *epollClients) dial(i int) error {
	family := unix.AF_INET
	if _, six := c.peer.(*unix.SockaddrInet6); six {
		family = unix.AF_INET6
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("make a socket: %w", err)
	}
	s := &c.streams[i]
	s.fd, s.state = fd, stateConnecting
	s.scanner = scanner{counted: c.begin.Counted, id: s.scanner.id}
	c.inFlight++
	if s.silent {
		// Their own kernel would take another 100 KB, which is not the server's.
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, silentBuffer); err != nil {
			return fmt.Errorf("SO_RCVBUF: %w", err)
		}
	}
	if c.local {
		// Without this option the kernel looks for a port that no other
		// connection of the address has, and runs out of them.
		if err := unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1); err != nil {
			return fmt.Errorf("IP_BIND_ADDRESS_NO_PORT: %w", err)
		}
		source := 2 + (c.begin.First+i)/streamsPerSource
		if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, byte(source >> 8), byte(source)}}); err != nil {
			return fmt.Errorf("bind to a loopback address: %w", err)
		}
	}
	if err := unix.Connect(fd, c.peer); err != nil && !errors.Is(err, unix.EINPROGRESS) {
		return fmt.Errorf("connect: %w", err)
	}
	event := unix.EpollEvent{Events: unix.EPOLLOUT, Fd: int32(i)}
	if err := unix.EpollCtl(c.epoll, unix.EPOLL_CTL_ADD, fd, &event); err != nil {
		return fmt.Errorf("watch: %w", err)
	}
	return nil
}

// ask sends the request on a connection that has been made. It fits into an
// empty socket's buffer.
func (c *epollClients) ask(i int) error {
	s := &c.streams[i]
	number, err := unix.GetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_ERROR)
	if err == nil && number != 0 {
		err = unix.Errno(number)
	}
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	var token string
	if len(c.tokens) > 0 {
		token = c.tokens[(c.begin.First+i)%len(c.tokens)]
	}
	request := c.begin.request(token, s.scanner.id)
	if n, err := unix.Write(s.fd, []byte(request)); err != nil {
		return fmt.Errorf("send the request: %w", err)
	} else if n < len(request) {
		return fmt.Errorf("send the request: %d of %d bytes were taken", n, len(request))
	}
	s.state = stateAsked
	event := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLRDHUP, Fd: int32(i)}
	return unix.EpollCtl(c.epoll, unix.EPOLL_CTL_MOD, s.fd, &event)
}
