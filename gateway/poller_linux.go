package gateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// poller watches the connections of all epollTransports: one goroutine and one
// epoll instance (https://man7.org/linux/man-pages/man7/epoll.7.html). It hears
// when a client leaves and when a full socket has room again.
//
// The instance's own descriptor is non-blocking and waits in the runtime's
// poller, so no thread is held. An event names a descriptor, and never that of a
// later connection: one wait names each descriptor once, and only this goroutine
// closes any, at its own event or between two waits.
//
// Locks: a transport's mu is taken before the poller's.
type poller struct {
	limit       int // bytes that may wait for one stream
	logger      *slog.Logger
	written     func(e *event, wrote int, err error)
	handlerDone func(net.Conn) // a request's goroutine is done with a connection that was taken over
	fd          int            // of epoll
	epoll       *os.File       // fd, in the runtime's poller

	mu         sync.Mutex
	transports []*epollTransport             // by descriptor; guarded by mu
	awaited    map[*epollTransport]time.Time // clients that must act: close by that moment, or, where it is zero, take what waits; guarded by mu
	replays    map[*epollTransport]func()    // cancels the replay of a stream. Here and not in the transport, where it would cost every stream 8 bytes; guarded by mu
	closed     bool                          // guarded by mu
}

const (
	overdueTick    = time.Second     // how exact the deadlines are
	lingerDeadline = 5 * time.Second // for a client to close after the last event
)

var errPollerClosed = errors.New("the gateway is not running any more")

func newPoller(limit int, logger *slog.Logger, written func(*event, int, error), handlerDone func(net.Conn)) (*poller, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("make an epoll instance: %w", err)
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		return nil, errors.Join(fmt.Errorf("make epoll non-blocking: %w", err), unix.Close(fd))
	}
	return &poller{
		limit: limit, logger: logger, written: written, handlerDone: handlerDone,
		fd: fd, epoll: os.NewFile(uintptr(fd), "epoll"), awaited: map[*epollTransport]time.Time{}, replays: map[*epollTransport]func(){},
	}, nil
}

// run watches until ctx ends, closes then what is still open, and returns ctx's
// cause.
func (p *poller) run(ctx context.Context) error {
	defer p.closeAll()
	raw, err := p.epoll.SyscallConn()
	if err != nil {
		return fmt.Errorf("wait for connections: %w", err)
	}
	defer context.AfterFunc(ctx, func() { p.epoll.SetReadDeadline(time.Unix(1, 0)) })() // the tick ends it too
	events := make([]unix.EpollEvent, 256)
	for tick := time.Now(); ctx.Err() == nil; {
		if now := time.Now(); !now.Before(tick) {
			p.closeOverdue(now)
			tick = now.Add(overdueTick)
			if err := p.epoll.SetReadDeadline(tick); err != nil {
				return fmt.Errorf("wait for connections: %w", err)
			}
			if ctx.Err() != nil { // its deadline may just have been overwritten
				break
			}
		}
		var n int
		var failed error
		err := raw.Read(func(fd uintptr) bool {
			n, failed = unix.EpollWait(int(fd), events, 0)
			return n != 0 || failed != nil
		})
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded) || failed == unix.EINTR:
			continue
		case errors.Join(err, failed) != nil:
			return fmt.Errorf("wait for connections: %w", errors.Join(err, failed))
		}
		for _, e := range events[:n] {
			p.handle(e)
		}
	}
	return context.Cause(ctx)
}

func (p *poller) handle(e unix.EpollEvent) {
	t := p.at(int(e.Fd))
	switch {
	case t == nil: // cannot happen: every watched descriptor has its transport
	case e.Events&(unix.EPOLLRDHUP|unix.EPOLLHUP|unix.EPOLLERR) != 0:
		p.close(t, false)
	case e.Events&unix.EPOLLOUT != 0:
		t.onRoom()
	}
}

func (p *poller) at(fd int) *epollTransport {
	p.mu.Lock()
	defer p.mu.Unlock()
	if fd >= len(p.transports) {
		return nil
	}
	return p.transports[fd]
}

// add begins to watch t, whose mu is held.
func (p *poller) add(t *epollTransport) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return errPollerClosed
	}
	fd := int(t.fd)
	if fd >= len(p.transports) {
		p.transports = append(p.transports, make([]*epollTransport, fd+1-len(p.transports))...)
	}
	e := unix.EpollEvent{Events: unix.EPOLLRDHUP, Fd: t.fd}
	if err := unix.EpollCtl(p.fd, unix.EPOLL_CTL_ADD, fd, &e); err != nil {
		return fmt.Errorf("watch a connection: %w", err)
	}
	p.transports[fd] = t
	return nil
}

// close is the one place where a connection is closed that was taken over. Only
// run's goroutine calls it.
func (p *poller) close(t *epollTransport, timedOut bool) {
	t.mu.Lock()
	fd, onClose, waiting := int(t.fd), t.onClose, t.outbox
	if fd < 0 {
		t.mu.Unlock()
		return
	}
	p.mu.Lock()
	p.transports[fd] = nil
	delete(p.awaited, t)
	p.mu.Unlock()
	t.fd, t.state, t.onClose, t.outbox = -1, epollClosed, nil, nil
	unix.Close(fd) // it leaves epoll too; nothing can be done about an error
	t.mu.Unlock()
	p.endReplay(t)
	if waiting != nil {
		waiting.release()
	}
	onClose(timedOut)
}

// await holds t's client to a deadline: to close by a moment, or, where that is
// zero, to take what waits. settle ends it. t's mu is held for both.
func (p *poller) await(t *epollTransport, closeBy time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.awaited[t] = closeBy
}

func (p *poller) settle(t *epollTransport) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.awaited, t)
}

// addReplay registers the function that cancels t's replay.
func (p *poller) addReplay(t *epollTransport, cancel func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.replays[t] = cancel
}

// endReplay cancels t's replay and forgets it. It is called when the replay has
// ended and when its stream has, whichever is first.
func (p *poller) endReplay(t *epollTransport) {
	p.mu.Lock()
	cancel := p.replays[t]
	delete(p.replays, t)
	p.mu.Unlock()
	if cancel != nil {
		cancel()
	}
}

// deadlines returns what is awaited, to be looked at without the lock.
func (p *poller) deadlines() map[*epollTransport]time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	return maps.Clone(p.awaited)
}

func (p *poller) closeOverdue(now time.Time) {
	for t, closeBy := range p.deadlines() {
		if over, timedOut := t.overdue(now, closeBy); over {
			p.close(t, timedOut)
		}
	}
}

// flush waits until the sockets have taken what waits, or ctx ends.
func (p *poller) flush(ctx context.Context) {
	for t := range p.deadlines() {
		t.Drained(ctx) // over is as good as written
	}
}

func (p *poller) closeAll() {
	p.mu.Lock()
	p.closed = true
	all := slices.Clone(p.transports)
	p.mu.Unlock()
	for _, t := range all {
		if t != nil {
			p.close(t, false)
		}
	}
	p.epoll.Close() // nothing is watched any more
}
