package gateway

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// parked is the transport of a plain HTTP/1.1 connection. Its descriptor is
// taken over from net/http as soon as the request is answered, so that an idle
// stream keeps no goroutine and no buffer: 48 bytes here and what the kernel
// holds. Whoever sends writes to the socket without blocking; only what the
// socket refuses waits here, and the lot writes it when there is room.
//
// The body is chunked (RFC 9112 section 7.1). One event is one chunk and one
// write, and was encoded with its chunk's size, so that all streams share its
// bytes. A client that reads by blocks gets each event at once: a body that ends
// with the connection would make it wait until its block is full.
//
// The danger is the descriptor's number, which the kernel gives to the next
// connection as soon as it is closed. Therefore it is closed in one place
// (lot.remove), by one goroutine, under mu, and everybody writes under mu.
type parked struct {
	lot *lot

	mu      sync.Mutex
	fd      int              // -1 before Serve and after the end; guarded by mu
	state   parkedState      // guarded by mu
	backlog *backlog         // nil while nothing waits; guarded by mu
	gone    func(stuck bool) // guarded by mu
}

// backlog is what the socket did not take.
type backlog struct {
	events []*event
	offset int             // bytes of the first event that have been written
	size   int             // bytes that wait
	since  time.Time       // of the last progress
	idle   []chan struct{} // closed when nothing waits or the stream is over
}

type parkedState uint8

const (
	parkedFresh  parkedState = iota // Serve has not been called
	parkedOpen                      // events go out
	parkedEnding                    // the last event was taken and waits
	parkedEnded                     // and was written: the client's turn to close
	parkedBroken                    // a write failed: the lot will close it
	parkedClosed
)

func (l *lot) transport() transport { return &parked{lot: l, fd: -1} }

// Send writes e, or queues it behind what waits already.
func (p *parked) Send(e *event) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.state > parkedOpen:
		return true // it is over; the client resumes from its cursor
	case p.backlog != nil && p.backlog.size > 0 && p.backlog.size+len(e.chunk) > p.lot.limit:
		return false
	}
	p.take(e)
	return true
}

// End writes e or queues it, and the connection is closed after it.
func (p *parked) End(e *event) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.state > parkedOpen {
		return
	}
	p.take(e.last())
	if p.state == parkedOpen && p.backlog == nil {
		p.finish()
	} else if p.state <= parkedOpen {
		p.state = parkedEnding
	}
}

// take needs mu.
func (p *parked) take(e *event) {
	if p.state == parkedOpen && p.backlog == nil {
		n, err := write(p.fd, e.chunk)
		switch {
		case err != nil:
			p.fail(e, err)
			return
		case n == len(e.chunk):
			p.lot.written(e, n, nil)
			return
		}
		p.backlog = &backlog{offset: n, size: -n, since: time.Now()}
		p.watch(unix.EPOLLOUT)
		p.lot.await(p)
	}
	if p.backlog == nil {
		p.backlog = &backlog{}
	}
	p.backlog.events = append(p.backlog.events, e.retain())
	p.backlog.size += len(e.chunk)
}

// Stalled goes by what the socket has taken.
func (p *parked) Stalled() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.backlog == nil || p.state != parkedOpen {
		return 0
	}
	return time.Since(p.backlog.since)
}

// Drained waits until the socket has taken everything.
func (p *parked) Drained(ctx context.Context) error {
	p.mu.Lock()
	switch {
	case p.state >= parkedEnded:
		p.mu.Unlock()
		return errStreamEnded
	case p.backlog == nil:
		p.mu.Unlock()
		return nil
	}
	idle := make(chan struct{})
	p.backlog.idle = append(p.backlog.idle, idle)
	p.mu.Unlock()
	return waitIdle(ctx, idle)
}

// Serve returns when the connection is parked and the replay is over.
func (p *parked) Serve(w http.ResponseWriter, r *http.Request, replay func(context.Context), gone func(stuck bool)) {
	conn, fd, err := takeOver(w)
	if conn != nil {
		defer p.lot.served(conn)
	}
	ctx := r.Context()
	if replay != nil {
		var cancel context.CancelFunc
		ctx, cancel = context.WithCancel(ctx)
		p.lot.replaying(p, cancel)
		defer p.lot.replayed(p)
	}
	if err == nil {
		err = p.park(fd, responseHead(w.Header()), gone)
	}
	if err != nil {
		p.lot.logger.Error("connection not taken over", "err", err)
		gone(false)
		return
	}
	if replay != nil {
		over := false
		defer func() {
			if !over { // it panicked, and the stream would stay open without ever becoming live
				p.abandon()
			}
		}()
		replay(ctx)
		over = true
	}
}

// takeOver returns a descriptor of w's connection that is ours alone. The
// connection is closed, which sends nothing while the duplicate is open, and
// takes the original out of the runtime's poller.
func takeOver(w http.ResponseWriter) (conn net.Conn, fd int, err error) {
	conn, _, err = http.NewResponseController(w).Hijack()
	if err != nil {
		return nil, -1, fmt.Errorf("hijack: %w", err)
	}
	defer conn.Close() //nolint:errcheck // the duplicate is what counts
	tcp, ok := conn.(syscall.Conn)
	if !ok {
		return conn, -1, fmt.Errorf("a %T has no descriptor", conn)
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return conn, -1, fmt.Errorf("take the descriptor: %w", err)
	}
	var dup error
	err = raw.Control(func(old uintptr) { fd, dup = unix.FcntlInt(old, unix.F_DUPFD_CLOEXEC, 0) })
	if err := errors.Join(err, dup); err != nil {
		return conn, -1, fmt.Errorf("duplicate the descriptor: %w", err)
	}
	return conn, fd, nil
}

func responseHead(header http.Header) []byte {
	var b bytes.Buffer
	b.WriteString("HTTP/1.1 200 OK\r\nDate: " + time.Now().UTC().Format(http.TimeFormat) + "\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n")
	header.Write(&b) //nolint:errcheck // a buffer takes everything
	b.WriteString("\r\n")
	return b.Bytes()
}

// park gives fd, which is p's from now on, into the lot, and writes the head
// and what has been queued.
func (p *parked) park(fd int, head []byte, gone func(stuck bool)) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fd = fd
	if err := p.lot.add(p); err != nil {
		p.fd, p.state = -1, parkedClosed
		return errors.Join(err, unix.Close(fd))
	}
	p.gone = gone
	if p.state == parkedFresh {
		p.state = parkedOpen
	}
	if p.backlog == nil {
		p.backlog = &backlog{events: []*event{{}}}
	}
	first := *p.backlog.events[0] // the head goes out with it, in one write
	first.chunk = append(head, first.chunk...)
	p.backlog.events[0] = &first
	p.backlog.size += len(head)
	p.backlog.since = time.Now()
	if p.flush(); p.backlog != nil && p.state < parkedEnded {
		p.watch(unix.EPOLLOUT)
		p.lot.await(p)
	}
	return nil
}

// room is called by the lot when the socket takes bytes again.
func (p *parked) room() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.backlog == nil || p.state >= parkedEnded {
		return
	}
	if p.flush(); p.backlog == nil {
		p.watch(0)
	}
}

// flush writes what waits as far as the socket takes it. It needs mu.
func (p *parked) flush() {
	b := p.backlog
	for len(b.events) > 0 {
		e := b.events[0]
		n, err := write(p.fd, e.chunk[b.offset:])
		if err != nil {
			p.fail(e, err)
			return
		}
		if n == 0 && len(e.chunk) > b.offset {
			return
		}
		b.offset, b.size, b.since = b.offset+n, b.size-n, time.Now()
		if b.offset < len(e.chunk) {
			return
		}
		p.lot.written(e, len(e.chunk), nil)
		b.events[0] = nil
		b.events, b.offset = b.events[1:], 0
	}
	for _, c := range b.idle {
		close(c)
	}
	p.backlog = nil
	p.lot.settled(p)
	if p.state == parkedEnding {
		p.finish()
	}
}

// finish says that nothing more comes. The client closes then; it gets some
// time for that, because a close of ours would discard what it has not read
// yet if it has sent something meanwhile. It needs mu.
func (p *parked) finish() {
	p.state, p.backlog = parkedEnded, &backlog{since: time.Now()}
	p.watch(0)
	p.lot.replayed(p)
	unix.Shutdown(p.fd, unix.SHUT_WR) //nolint:errcheck // then it is broken, and the lot will hear of it
	p.lot.await(p)
}

// fail makes the lot close the connection: only it may. It needs mu.
func (p *parked) fail(e *event, err error) {
	p.lot.written(e, 0, err)
	p.state = parkedBroken
	unix.Shutdown(p.fd, unix.SHUT_RDWR) //nolint:errcheck // then it is shut down already; either way EPOLLHUP follows
}

// abandon makes the lot close a connection that nothing more is written to.
func (p *parked) abandon() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.fd >= 0 {
		p.state = parkedBroken
		unix.Shutdown(p.fd, unix.SHUT_RDWR) //nolint:errcheck // as in fail
	}
}

// watch tells the lot what to look for besides the end. It needs mu.
func (p *parked) watch(events uint32) {
	e := unix.EpollEvent{Events: unix.EPOLLRDHUP | events, Fd: int32(p.fd)}
	if err := unix.EpollCtl(p.lot.fd, unix.EPOLL_CTL_MOD, p.fd, &e); err != nil && p.state < parkedBroken {
		p.state = parkedBroken
		unix.Shutdown(p.fd, unix.SHUT_RDWR) //nolint:errcheck // as in fail
	}
}

// overdue reports whether the client had its time, and whether it was stuck.
func (p *parked) overdue(now time.Time) (over, stuck bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.backlog == nil || p.fd < 0:
		return false, false
	case p.state == parkedEnded:
		return now.Sub(p.backlog.since) >= lingerDeadline, false
	}
	return now.Sub(p.backlog.since) >= writeDeadline, true
}

// write is write(2) on a socket that does not block: 0 bytes when it is full.
func write(fd int, b []byte) (int, error) {
	for {
		n, err := unix.Write(fd, b)
		switch {
		case err == unix.EINTR:
			continue
		case err == unix.EAGAIN:
			return 0, nil
		case err != nil:
			return 0, err
		}
		return n, nil
	}
}
