package gateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// lot watches the connections that are parked: one goroutine and one epoll
// instance (https://man7.org/linux/man-pages/man7/epoll.7.html) for all of
// them. It hears when a client leaves and when a full socket has room again.
//
// The instance's own descriptor is non-blocking and waits in the runtime's
// poller, so no thread is held. An event names a descriptor, and it is never
// that of a later connection: one wait names each descriptor once, and only
// this goroutine closes any, at its own event or between two waits.
type lot struct {
	limit   int // bytes that may wait for one stream
	logger  *slog.Logger
	written func(e *event, wrote int, err error)
	served  func(net.Conn) // a request's goroutine is done with a connection that was taken over
	fd      int            // of epoll
	epoll   *os.File       // fd, in the runtime's poller

	mu      sync.Mutex
	parked  []*parked            // by descriptor; guarded by mu
	waiting map[*parked]struct{} // those with a backlog or a deadline; guarded by mu
	replays map[*parked]func()   // ends a replay that is under way; guarded by mu
	closed  bool                 // guarded by mu
}

const (
	lotTick        = time.Second     // how exact the deadlines below are
	lingerDeadline = 5 * time.Second // for a client to close after the last event
)

var errLotClosed = errors.New("the gateway is not running any more")

func newLot(limit int, logger *slog.Logger, written func(*event, int, error), served func(net.Conn)) (*lot, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("make an epoll instance: %w", err)
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		return nil, errors.Join(fmt.Errorf("make epoll non-blocking: %w", err), unix.Close(fd))
	}
	return &lot{
		limit: limit, logger: logger, written: written, served: served,
		fd: fd, epoll: os.NewFile(uintptr(fd), "epoll"), waiting: map[*parked]struct{}{}, replays: map[*parked]func(){},
	}, nil
}

// run watches until ctx ends, closes what is parked then, and returns ctx's
// cause.
func (l *lot) run(ctx context.Context) error {
	defer l.close()
	raw, err := l.epoll.SyscallConn()
	if err != nil {
		return fmt.Errorf("wait for connections: %w", err)
	}
	defer context.AfterFunc(ctx, func() { l.epoll.SetReadDeadline(time.Unix(1, 0)) })() //nolint:errcheck // the tick ends it too
	events := make([]unix.EpollEvent, 256)
	for tick := time.Now(); ctx.Err() == nil; {
		if now := time.Now(); !now.Before(tick) {
			l.closeOverdue(now)
			tick = now.Add(lotTick)
			if err := l.epoll.SetReadDeadline(tick); err != nil {
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
			l.handle(e)
		}
	}
	return context.Cause(ctx)
}

func (l *lot) handle(e unix.EpollEvent) {
	p := l.at(int(e.Fd))
	switch {
	case p == nil: // it cannot be, and would be nobody's
	case e.Events&(unix.EPOLLRDHUP|unix.EPOLLHUP|unix.EPOLLERR) != 0:
		l.remove(p, false)
	case e.Events&unix.EPOLLOUT != 0:
		p.room()
	}
}

func (l *lot) at(fd int) *parked {
	l.mu.Lock()
	defer l.mu.Unlock()
	if fd >= len(l.parked) {
		return nil
	}
	return l.parked[fd]
}

// add begins to watch p, whose mu is held.
func (l *lot) add(p *parked) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return errLotClosed
	}
	if p.fd >= len(l.parked) {
		l.parked = append(l.parked, make([]*parked, p.fd+1-len(l.parked))...)
	}
	e := unix.EpollEvent{Events: unix.EPOLLRDHUP, Fd: int32(p.fd)}
	if err := unix.EpollCtl(l.fd, unix.EPOLL_CTL_ADD, p.fd, &e); err != nil {
		return fmt.Errorf("watch a connection: %w", err)
	}
	l.parked[p.fd] = p
	return nil
}

// remove is the one place where a parked connection is closed. Only run's
// goroutine calls it.
func (l *lot) remove(p *parked, stuck bool) {
	p.mu.Lock()
	fd, gone, b := p.fd, p.gone, p.backlog
	if fd < 0 {
		p.mu.Unlock()
		return
	}
	l.mu.Lock()
	l.parked[fd] = nil
	delete(l.waiting, p)
	l.mu.Unlock()
	p.fd, p.state, p.gone, p.backlog = -1, parkedClosed, nil, nil
	unix.Close(fd) //nolint:errcheck // it leaves epoll too; nothing can be done about an error
	p.mu.Unlock()
	l.replayed(p)
	if b != nil {
		for _, c := range b.idle {
			close(c)
		}
	}
	gone(stuck)
}

// await puts p under a deadline, settled takes it out; p's mu is held.
func (l *lot) await(p *parked) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.waiting[p] = struct{}{}
}

func (l *lot) settled(p *parked) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.waiting, p)
}

// replaying notes how p's replay is ended when its stream is over first, and
// replayed forgets it, ended.
func (l *lot) replaying(p *parked, cancel func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.replays[p] = cancel
}

func (l *lot) replayed(p *parked) {
	l.mu.Lock()
	cancel := l.replays[p]
	delete(l.replays, p)
	l.mu.Unlock()
	if cancel != nil {
		cancel()
	}
}

func (l *lot) awaited() []*parked {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := make([]*parked, 0, len(l.waiting))
	for p := range l.waiting {
		all = append(all, p)
	}
	return all
}

func (l *lot) closeOverdue(now time.Time) {
	for _, p := range l.awaited() {
		if over, stuck := p.overdue(now); over {
			l.remove(p, stuck)
		}
	}
}

// flushed waits until the sockets have taken what waits, or ctx ends.
func (l *lot) flushed(ctx context.Context) {
	for _, p := range l.awaited() {
		p.Drained(ctx) //nolint:errcheck // over is as good as written
	}
}

func (l *lot) close() {
	l.mu.Lock()
	l.closed = true
	all := slices.Clone(l.parked)
	l.mu.Unlock()
	for _, p := range all {
		if p != nil {
			l.remove(p, false)
		}
	}
	l.epoll.Close() //nolint:errcheck // nothing is watched any more
}
