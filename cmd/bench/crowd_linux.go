package main

import (
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// crowd holds many streams on one thread that waits for all of them at once
// and reads into one buffer, so that it costs less than what it measures.
type crowd struct {
	begin crowdTask
	peer  unix.Sockaddr
	local bool // the peer is on loopback, where we have many addresses

	tasks   chan crowdTask // unbuffered: do waits for its answer
	answers chan counts    // unbuffered
	done    chan struct{}  // closed when run has returned

	// owned by run's goroutine
	epoll, bell int
	streams     []crowdStream
	tokens      []string
	waiting     []int // streams to be connected, first come first
	inFlight    int
	counts      counts
	began       time.Time
	buffer      []byte
}

// crowdStream is one connection.
type crowdStream struct {
	fd      int // -1 while there is none
	state   crowdState
	silent  bool
	scanner scanner
}

type crowdState uint8

const (
	crowdConnecting crowdState = iota // the kernel shakes hands
	crowdAsked                        // the request is sent
	crowdStreaming
	crowdClosed
)

func newCrowd(begin crowdTask) (holder, error) {
	peer, err := netip.ParseAddrPort(begin.Address)
	if err != nil {
		return nil, fmt.Errorf("address: %w", err)
	}
	peer = netip.AddrPortFrom(peer.Addr().Unmap(), peer.Port())
	c := &crowd{
		begin: begin, local: peer.Addr().Is4() && peer.Addr().IsLoopback(),
		tasks: make(chan crowdTask), answers: make(chan counts), done: make(chan struct{}),
		began: time.Now(), buffer: make([]byte, 256<<10),
	}
	if peer.Addr().Is4() {
		c.peer = &unix.SockaddrInet4{Port: int(peer.Port()), Addr: peer.Addr().As4()}
	} else {
		c.peer = &unix.SockaddrInet6{Port: int(peer.Port()), Addr: peer.Addr().As16()}
	}
	if c.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return nil, fmt.Errorf("make an epoll instance: %w", err)
	}
	if c.bell, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		return nil, errors.Join(fmt.Errorf("make an eventfd: %w", err), unix.Close(c.epoll))
	}
	if err := unix.EpollCtl(c.epoll, unix.EPOLL_CTL_ADD, c.bell, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: -1}); err != nil {
		return nil, errors.Join(fmt.Errorf("watch the eventfd: %w", err), unix.Close(c.bell), unix.Close(c.epoll))
	}
	go c.run()
	return c, nil
}

// do carries a task out, as far as that does not wait, and returns the counts.
func (c *crowd) do(t crowdTask) counts {
	c.ring()
	c.tasks <- t
	return <-c.answers
}

func (c *crowd) close() {
	c.ring()
	close(c.tasks)
	<-c.done
}

// ring makes run look for a task.
func (c *crowd) ring() {
	one := [8]byte{7: 1}
	_, _ = unix.Write(c.bell, one[:]) // full means rung already
}

// run owns the streams until the tasks end.
func (c *crowd) run() {
	runtime.LockOSThread()
	defer close(c.done)
	events := make([]unix.EpollEvent, 512)
	for {
		n, err := unix.EpollWait(c.epoll, events, -1)
		if err != nil && !errors.Is(err, unix.EINTR) {
			panic(err) // the descriptor is ours and open
		}
		for _, e := range events[:max(0, n)] {
			if e.Fd >= 0 {
				c.ready(int(e.Fd), e.Events)
				continue
			}
			_, _ = unix.Read(c.bell, c.buffer[:8]) // its number does not matter
			t, ok := <-c.tasks                     // whoever rings brings one
			if !ok {
				c.drop(len(c.streams))
				unix.Close(c.bell)
				unix.Close(c.epoll)
				return
			}
			c.answer(t)
		}
		c.connect()
	}
}

func (c *crowd) answer(t crowdTask) {
	if len(t.Tokens) > 0 {
		c.tokens = t.Tokens
	}
	switch t.Do {
	case crowdOpen:
		for range t.Streams {
			c.waiting = append(c.waiting, len(c.streams))
			c.streams = append(c.streams, crowdStream{fd: -1, state: crowdClosed, silent: t.Silent})
		}
		c.counts.Wanted += t.Streams
	case crowdDrop:
		c.drop(t.Streams)
	case crowdResume:
		for i := range c.counts.Dropped {
			c.waiting = append(c.waiting, i)
		}
		c.counts.Wanted, c.counts.Dropped = len(c.streams), 0
	}
	answer := c.counts
	if answer.Pings = nil; t.Do == crowdPings {
		answer.Pings = slices.Clone(c.counts.Pings)
	}
	c.answers <- answer
}

// drop cuts connections with a reset, which leaves no port behind in TIME-WAIT.
// It is for a crowd whose streams are all open.
func (c *crowd) drop(n int) {
	n = min(n, len(c.streams))
	for i := range n {
		c.hangUp(i)
	}
	c.counts.Wanted, c.counts.Dropped = len(c.streams)-n, n
}

func (c *crowd) hangUp(i int) {
	s := &c.streams[i]
	if s.fd < 0 {
		return
	}
	switch s.state {
	case crowdStreaming:
		c.counts.Open--
	case crowdConnecting, crowdAsked:
		c.inFlight--
	}
	_ = unix.SetsockoptLinger(s.fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	unix.Close(s.fd)
	s.fd, s.state = -1, crowdClosed
}

// fail counts a stream that did not become or stay open.
func (c *crowd) fail(i int, counter *int64, why string) {
	c.hangUp(i)
	*counter++
	if c.counts.Why == "" {
		c.counts.Why = why
	}
}

// ended counts a connection that the server closed; before its answer that is
// a failure.
func (c *crowd) ended(i int, why string) {
	if s := &c.streams[i]; s.state == crowdStreaming {
		c.fail(i, &c.counts.Ended, s.scanner.why(why))
		return
	}
	c.fail(i, &c.counts.Failed, "before an answer: "+why)
}

// ready goes on with a stream whose descriptor is.
func (c *crowd) ready(i int, events uint32) {
	s := &c.streams[i]
	switch {
	case s.fd < 0: // closed since the kernel said so
	case s.state == crowdConnecting:
		if err := c.ask(i); err != nil {
			c.fail(i, &c.counts.Failed, err.Error())
		}
	case events&unix.EPOLLIN != 0 && (!s.silent || s.state == crowdAsked):
		c.read(i)
	case events&(unix.EPOLLHUP|unix.EPOLLERR|unix.EPOLLRDHUP) != 0:
		c.ended(i, "the server closed the connection")
	}
}

// read takes what has come.
func (c *crowd) read(i int) {
	s := &c.streams[i]
	for s.fd >= 0 {
		n, err := unix.Read(s.fd, c.buffer)
		switch {
		case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EINTR):
			return
		case err != nil:
			c.ended(i, err.Error())
			return
		case n == 0:
			c.ended(i, "the server closed the connection")
			return
		}
		c.counts.Bytes += int64(n)
		pings := c.counts.Events[kindPing]
		if err := s.scanner.feed(c.buffer[:n], &c.counts.Events); err != nil {
			c.fail(i, &c.counts.Failed, err.Error())
			return
		}
		c.counts.pinged(time.Since(c.began), c.counts.Events[kindPing]-pings)
		if s.state == crowdAsked && s.scanner.status != 0 {
			c.answered(i)
		}
		if s.scanner.ended && s.fd >= 0 {
			c.ended(i, "the server ended the stream")
		}
		if n < len(c.buffer) || s.silent {
			return
		}
	}
}

// answered notes a complete head.
func (c *crowd) answered(i int) {
	s := &c.streams[i]
	if s.scanner.status != 200 {
		c.fail(i, &c.counts.Refused, "status "+strconv.Itoa(s.scanner.status))
		return
	}
	if !s.scanner.events {
		c.fail(i, &c.counts.Refused, errNoStream.Error())
		return
	}
	s.state = crowdStreaming
	c.inFlight--
	c.counts.Open++
	c.counts.Opened++
	if s.silent { // told of its end only, never of bytes
		event := unix.EpollEvent{Fd: int32(i)}
		if err := unix.EpollCtl(c.epoll, unix.EPOLL_CTL_MOD, s.fd, &event); err != nil {
			c.fail(i, &c.counts.Failed, err.Error())
		}
	}
}
