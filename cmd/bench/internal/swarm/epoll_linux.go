package swarm

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// epollClients holds many streams on one thread, which waits for all of them at
// once and reads into one buffer. So the clients cost less than the server that
// they measure.
type epollClients struct {
	begin task
	peer  unix.Sockaddr
	local bool // the peer is on loopback, where we have many addresses

	tasks   chan task     // unbuffered: do waits for its answer
	answers chan Counts   // unbuffered
	done    chan struct{} // closed when run has returned

	// owned by run's goroutine
	epoll, wakeup int
	streams       []epollStream
	tokens        []string
	waiting       []int // streams to be connected, first come first
	inFlight      int
	counts        Counts
	began         time.Time
	buffer        []byte
}

// epollStream is one connection.
type epollStream struct {
	fd      int // -1 while there is none
	state   streamState
	silent  bool
	scanner scanner
}

type streamState uint8

const (
	stateConnecting streamState = iota // the kernel shakes hands
	stateAsked                         // the request is sent
	stateStreaming
	stateClosed
)

func newEpollClients(begin task) (clients, error) {
	peer, err := netip.ParseAddrPort(begin.Address)
	if err != nil {
		return nil, fmt.Errorf("address: %w", err)
	}
	peer = netip.AddrPortFrom(peer.Addr().Unmap(), peer.Port())
	c := &epollClients{
		begin: begin, local: peer.Addr().Is4() && peer.Addr().IsLoopback(),
		tasks: make(chan task), answers: make(chan Counts), done: make(chan struct{}),
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
	if c.wakeup, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		return nil, errors.Join(fmt.Errorf("make an eventfd: %w", err), unix.Close(c.epoll))
	}
	if err := unix.EpollCtl(c.epoll, unix.EPOLL_CTL_ADD, c.wakeup, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: -1}); err != nil {
		return nil, errors.Join(fmt.Errorf("watch the eventfd: %w", err), unix.Close(c.wakeup), unix.Close(c.epoll))
	}
	go c.run()
	return c, nil
}

// do starts a task and returns the counts without waiting for its end.
func (c *epollClients) do(t task) Counts {
	c.wake()
	c.tasks <- t
	return <-c.answers
}

func (c *epollClients) close() {
	c.wake()
	close(c.tasks)
	<-c.done
}

// wake makes run take a task.
func (c *epollClients) wake() {
	one := [8]byte{7: 1}
	_, _ = unix.Write(c.wakeup, one[:]) // full means that it is awake already
}

// run owns the streams until the tasks end.
func (c *epollClients) run() {
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
			_, _ = unix.Read(c.wakeup, c.buffer[:8]) // the number that it holds does not matter
			t, ok := <-c.tasks                       // wake is followed by a task or by the end of tasks
			if !ok {
				c.drop(len(c.streams))
				unix.Close(c.wakeup)
				unix.Close(c.epoll)
				return
			}
			c.answer(t)
		}
		c.connect()
	}
}

func (c *epollClients) answer(t task) {
	if len(t.Tokens) > 0 {
		c.tokens = t.Tokens
	}
	switch t.Do {
	case taskOpen:
		for range t.Streams {
			c.waiting = append(c.waiting, len(c.streams))
			c.streams = append(c.streams, epollStream{fd: -1, state: stateClosed, silent: t.Silent})
		}
		c.counts.Wanted += t.Streams
	case taskDrop:
		c.drop(t.Streams)
	case taskResume:
		for i := range c.counts.Dropped {
			c.waiting = append(c.waiting, i)
		}
		c.counts.Wanted, c.counts.Dropped = len(c.streams), 0
	}
	answer := c.counts
	if answer.Pings = nil; t.Do == taskPings {
		answer.Pings = slices.Clone(c.counts.Pings)
	}
	c.answers <- answer
}

// drop cuts connections with a reset, which leaves no port behind in TIME-WAIT.
// All streams must be open.
func (c *epollClients) drop(n int) {
	n = min(n, len(c.streams))
	for i := range n {
		c.hangUp(i)
	}
	c.counts.Wanted, c.counts.Dropped = len(c.streams)-n, n
}

func (c *epollClients) hangUp(i int) {
	s := &c.streams[i]
	if s.fd < 0 {
		return
	}
	switch s.state {
	case stateStreaming:
		c.counts.Open--
	case stateConnecting, stateAsked:
		c.inFlight--
	}
	_ = unix.SetsockoptLinger(s.fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	unix.Close(s.fd)
	s.fd, s.state = -1, stateClosed
}

// fail counts a stream that did not become or stay open.
func (c *epollClients) fail(i int, counter *int64, why string) {
	c.hangUp(i)
	*counter++
	if c.counts.Why == "" {
		c.counts.Why = why
	}
}

// ended counts a connection that the server closed; before its answer that is
// a failure.
func (c *epollClients) ended(i int, why string) {
	if s := &c.streams[i]; s.state == stateStreaming {
		c.fail(i, &c.counts.Ended, s.scanner.why(why))
		return
	}
	c.fail(i, &c.counts.Failed, "before an answer: "+why)
}

// ready continues a stream whose descriptor is ready.
func (c *epollClients) ready(i int, events uint32) {
	s := &c.streams[i]
	switch {
	case s.fd < 0: // closed after the kernel reported it
	case s.state == stateConnecting:
		if err := c.ask(i); err != nil {
			c.fail(i, &c.counts.Failed, err.Error())
		}
	case events&unix.EPOLLIN != 0 && (!s.silent || s.state == stateAsked):
		c.read(i)
	case events&(unix.EPOLLHUP|unix.EPOLLERR|unix.EPOLLRDHUP) != 0:
		c.ended(i, "the server closed the connection")
	}
}

// read reads until nothing is left to read.
func (c *epollClients) read(i int) {
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
		pings := c.counts.Events[Ping]
		if err := s.scanner.feed(c.buffer[:n], &c.counts.Events); err != nil {
			c.fail(i, &c.counts.Failed, err.Error())
			return
		}
		c.counts.pinged(time.Since(c.began), c.counts.Events[Ping]-pings)
		if s.state == stateAsked && s.scanner.status != 0 {
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

// answered handles a response whose head is complete.
func (c *epollClients) answered(i int) {
	s := &c.streams[i]
	if s.scanner.status != 200 {
		c.counts.Status = cmp.Or(c.counts.Status, s.scanner.status)
		c.fail(i, &c.counts.Refused, "status "+strconv.Itoa(s.scanner.status))
		return
	}
	if !s.scanner.events {
		c.fail(i, &c.counts.Refused, errNoStream.Error())
		return
	}
	s.state = stateStreaming
	c.inFlight--
	c.counts.Open++
	c.counts.Opened++
	if s.silent { // we want to hear of its end, not of bytes
		event := unix.EpollEvent{Fd: int32(i)}
		if err := unix.EpollCtl(c.epoll, unix.EPOLL_CTL_MOD, s.fd, &event); err != nil {
			c.fail(i, &c.counts.Failed, err.Error())
		}
	}
}
