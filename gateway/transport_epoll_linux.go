package gateway

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// epollTransport is the transport of a plain HTTP/1 connection. Its descriptor is
// taken over from net/http as soon as the request is answered, so an idle stream
// keeps no goroutine and no buffer: only 48 bytes here, and what the kernel holds.
// Send writes to the socket without blocking. What the socket refuses waits in the
// outbox, and the poller writes it when the socket has room again.
//
// The body is chunked (RFC 9112 section 7.1). One event is one chunk and one
// write, and was encoded with its chunk's size, so that all streams share its
// bytes. A client that reads by blocks gets each event at once: a body that ends
// with the connection would make it wait until its block is full. HTTP/1.0 has no
// chunks, and its body ends with the connection.
//
// The danger is the descriptor's number, which the kernel gives to the next
// connection as soon as it is closed. Therefore it is closed in one place
// (poller.close), by one goroutine, under mu, and every write happens under mu.
type epollTransport struct {
	poller *poller

	mu      sync.Mutex
	fd      int32               // -1 before Serve and after the end; guarded by mu
	state   epollState          // guarded by mu
	chunked bool                // HTTP/1.1; never changes
	outbox  *outbox             // nil while nothing waits; guarded by mu
	onClose func(timedOut bool) // guarded by mu
}

// epollState is what is done with the connection.
//
//	new ──Serve──▶ open ──End──▶ ending ──all is written──▶ lingering ──▶ closed
//	                └──────a write fails──────▶ broken ────────────────────┘
type epollState uint8

const (
	// epollNew: Serve has not been called. Events wait in the outbox.
	epollNew epollState = iota
	// epollOpen: events are written as they come.
	epollOpen
	// epollEnding: the last event was taken and waits. No other is taken.
	epollEnding
	// epollLingering: everything is written, and no byte follows. The client has
	// lingerDeadline to close: a close of ours would discard what it has not read
	// yet, if it has sent something meanwhile.
	epollLingering
	// epollBroken: nothing more is written. The poller will close the connection.
	epollBroken
	// epollClosed: the descriptor is not ours any more.
	epollClosed
)

func (p *poller) transport(chunked bool) transport {
	return &epollTransport{poller: p, fd: -1, chunked: chunked}
}

// Send writes e, or queues it behind what waits already.
func (t *epollTransport) Send(e *event) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.state > epollOpen:
		return true // it is over; the client resumes from its cursor
	case t.outbox != nil && !t.outbox.fits(len(t.bytes(e)), t.poller.limit):
		return false
	}
	t.takeLocked(e, t.bytes(e))
	return true
}

// End writes e or queues it. The connection is closed after it.
func (t *epollTransport) End(e *event) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.state > epollOpen {
		return
	}
	e = e.retain()
	last := t.bytes(e)
	if t.chunked {
		last = append(slices.Clip(last), lastChunk...)
	}
	t.takeLocked(e, last)
	if t.state == epollOpen && t.outbox == nil {
		t.lingerLocked()
	} else if t.state <= epollOpen {
		t.state = epollEnding
	}
}

// bytes are what is written of e.
func (t *epollTransport) bytes(e *event) []byte {
	if t.chunked {
		return e.chunk
	}
	return e.plain()
}

// takeLocked writes b, the bytes of e, or queues what the socket does not take.
func (t *epollTransport) takeLocked(e *event, b []byte) {
	if t.state != epollOpen || t.outbox != nil {
		t.pushLocked(e, b)
		return
	}
	n, err := write(t.fd, b)
	switch {
	case err != nil:
		t.failLocked(e, err)
	case n == len(b):
		t.poller.written(e, n, nil)
	default:
		t.pushLocked(e, b)
		t.outbox.wrote(n, time.Now())
		t.watchLocked(unix.EPOLLOUT)
		t.poller.await(t, time.Time{})
	}
}

func (t *epollTransport) pushLocked(e *event, b []byte) {
	if t.outbox == nil {
		t.outbox = &outbox{}
	}
	if e.shared { // b is in the batch's buffer
		e = e.retain()
		b = t.bytes(e)
	}
	t.outbox.push(e, b, time.Now())
}

// Stalled goes by what the socket has taken.
func (t *epollTransport) Stalled() time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.outbox == nil || t.state != epollOpen {
		return 0
	}
	return t.outbox.stalled(time.Now())
}

// Drained waits until the socket has taken everything.
func (t *epollTransport) Drained(ctx context.Context) error {
	t.mu.Lock()
	if t.state >= epollLingering || t.outbox == nil {
		defer t.mu.Unlock()
		if t.state >= epollLingering {
			return errStreamEnded
		}
		return nil
	}
	idle := t.outbox.wait()
	t.mu.Unlock()
	return waitIdle(ctx, idle)
}

// Serve returns when the connection is taken over and the replay has ended.
func (t *epollTransport) Serve(w http.ResponseWriter, r *http.Request, replay func(context.Context), onClose func(timedOut bool)) {
	conn, fd, err := takeOver(w)
	if conn != nil {
		defer t.poller.handlerDone(conn)
	}
	ctx := r.Context()
	if replay != nil {
		var cancel context.CancelFunc
		ctx, cancel = context.WithCancel(ctx)
		t.poller.addReplay(t, cancel)
		defer t.poller.endReplay(t)
	}
	if err == nil {
		err = t.open(fd, t.head(w.Header()), onClose)
	}
	if err != nil {
		t.poller.logger.Error("connection not taken over", "err", err)
		onClose(false)
		return
	}
	if replay != nil {
		returned := false
		defer func() {
			if !returned { // it panicked, and the stream would stay open without ever becoming live
				t.abandon()
			}
		}()
		replay(ctx)
		returned = true
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
	defer conn.Close() // the duplicate is what counts
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

// head is the response's head. It is written by hand: http.Header.Write sorts the
// fields and takes its memory in several pieces.
func (t *epollTransport) head(header http.Header) []byte {
	header.Del("Connection") // it is written below
	b := make([]byte, 0, headSize)
	if t.chunked {
		b = append(b, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n"...)
	} else {
		b = append(b, "HTTP/1.0 200 OK\r\n"...)
	}
	b = time.Now().UTC().AppendFormat(append(b, "Connection: close\r\nDate: "...), http.TimeFormat)
	b = append(b, crlf...)
	for name, values := range header {
		for _, value := range values {
			b = append(append(append(append(b, name...), ": "...), value...), crlf...)
		}
	}
	return append(b, crlf...)
}

// headSize is what the head and the first event mostly take, so that both stand in
// one piece of memory.
const headSize = 1024

// open gives fd, which is the transport's from now on, to the poller, and writes
// the head and what has been queued.
func (t *epollTransport) open(fd int, head []byte, onClose func(timedOut bool)) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.fd = int32(fd)
	if err := t.poller.add(t); err != nil {
		t.fd, t.state = -1, epollClosed
		return errors.Join(err, unix.Close(fd))
	}
	t.onClose = onClose
	if t.state == epollNew {
		t.state = epollOpen
	}
	if t.outbox == nil {
		t.outbox = &outbox{}
	}
	t.outbox.prepend(head, time.Now())
	if t.flushLocked(); t.outbox != nil && t.state < epollLingering {
		t.watchLocked(unix.EPOLLOUT)
		t.poller.await(t, time.Time{})
	}
	return nil
}

// onRoom is called by the poller when the socket takes bytes again.
func (t *epollTransport) onRoom() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.outbox == nil || t.state >= epollLingering {
		return
	}
	if t.flushLocked(); t.outbox == nil && t.state < epollLingering {
		t.watchLocked(0)
	}
}

// flushLocked writes what waits, as far as the socket takes it.
func (t *epollTransport) flushLocked() {
	for !t.outbox.empty() {
		first := t.outbox.items[0]
		n, err := write(t.fd, first.bytes)
		if err != nil {
			t.failLocked(first.event, err)
			return
		}
		done := t.outbox.wrote(n, time.Now())
		if n < len(first.bytes) {
			return
		}
		if done != nil {
			t.poller.written(done, len(t.bytes(done)), nil)
		}
	}
	t.outbox = nil
	t.poller.settle(t)
	if t.state == epollEnding {
		t.lingerLocked()
	}
}

// lingerLocked ends the body and waits for the client to close.
func (t *epollTransport) lingerLocked() {
	t.state = epollLingering
	t.watchLocked(0)
	t.poller.endReplay(t)
	unix.Shutdown(int(t.fd), unix.SHUT_WR) // then it is broken, and the poller will hear of it
	t.poller.await(t, time.Now().Add(lingerDeadline))
}

// failLocked counts a write that failed.
func (t *epollTransport) failLocked(e *event, err error) {
	if e != nil {
		t.poller.written(e, 0, err)
	}
	t.breakLocked()
}

// breakLocked makes the poller close the connection: nothing else may.
func (t *epollTransport) breakLocked() {
	t.state = epollBroken
	unix.Shutdown(int(t.fd), unix.SHUT_RDWR) // then it is shut down already; either way EPOLLHUP follows
}

// abandon makes the poller close a connection that nothing more is written to.
func (t *epollTransport) abandon() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.fd >= 0 {
		t.breakLocked()
	}
}

// watchLocked tells the kernel what to look for besides the end.
func (t *epollTransport) watchLocked(events uint32) {
	e := unix.EpollEvent{Events: unix.EPOLLRDHUP | events, Fd: t.fd}
	if err := unix.EpollCtl(t.poller.fd, unix.EPOLL_CTL_MOD, int(t.fd), &e); err != nil && t.state < epollBroken {
		t.breakLocked()
	}
}

// overdue reports whether the client has had its time: to close, where the poller
// holds it to the moment closeBy, else to take some of what waits.
func (t *epollTransport) overdue(now, closeBy time.Time) (over, timedOut bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.fd < 0:
		return false, false
	case t.state == epollLingering:
		return !now.Before(closeBy), false
	case t.outbox == nil:
		return false, false
	}
	return t.outbox.stalled(now) >= writeDeadline, true
}

// write is write(2) on a socket that does not block: 0 bytes when it is full.
func write(fd int32, b []byte) (int, error) {
	for {
		n, err := unix.Write(int(fd), b)
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
