package gateway

import (
	"context"
	"errors"
	"net/http"
	"os"
	"sync"
	"time"
)

// httpTransport sends events through net/http: they wait until the request's own
// goroutine writes them. It works over TLS, over HTTP/2 and on every system, and
// costs some 30 KB a stream.
type httpTransport struct {
	limit   int                                 // bytes that may wait
	written func(e *event, wrote int, at error) // tells the metrics; called by Serve's goroutine

	mu       sync.Mutex
	outbox   outbox // the event that is being written is its first; guarded by mu
	ended    bool   // no event is taken any more; guarded by mu
	returned bool   // nobody writes any more; guarded by mu

	wake chan struct{} // capacity 1: one pending wake is enough, the writer takes all
}

func newHTTPTransport(limit int, written func(*event, int, error)) *httpTransport {
	return &httpTransport{limit: limit, written: written, wake: make(chan struct{}, 1)}
}

// Send queues e.
func (t *httpTransport) Send(e *event) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.ended || t.returned:
		return true // it is over; the client resumes from its cursor
	case !t.outbox.fits(len(e.plain()), t.limit):
		return false
	}
	t.pushLocked(e)
	return true
}

// End queues e, however much waits, and takes nothing after it.
func (t *httpTransport) End(e *event) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ended || t.returned {
		return
	}
	t.ended = true
	t.pushLocked(e)
}

func (t *httpTransport) pushLocked(e *event) {
	e = e.retain()
	t.outbox.push(e, e.plain(), time.Now())
	select {
	case t.wake <- struct{}{}:
	default: // a wake is pending already
	}
}

// Stalled goes by whole events: net/http does not tell of less.
func (t *httpTransport) Stalled() time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.outbox.stalled(time.Now())
}

// Drained waits for the writer to have written everything.
func (t *httpTransport) Drained(ctx context.Context) error {
	t.mu.Lock()
	if t.returned || t.outbox.empty() {
		defer t.mu.Unlock()
		if t.returned {
			return errStreamEnded
		}
		return nil
	}
	idle := t.outbox.wait()
	t.mu.Unlock()
	return waitIdle(ctx, idle)
}

// Serve returns when the stream is over.
func (t *httpTransport) Serve(w http.ResponseWriter, r *http.Request, replay func(context.Context), onClose func(timedOut bool)) {
	ctx, cancel := context.WithCancel(r.Context())
	var replaying sync.WaitGroup
	defer replaying.Wait()
	defer cancel()
	if replay != nil {
		replaying.Go(func() { replay(ctx) })
	}
	timedOut := false
	defer func() { onClose(timedOut) }()
	if r.ProtoMajor == 1 { // over HTTP/2 it would end the streams beside this one
		w.Header().Set("Connection", "close")
	}
	w.WriteHeader(http.StatusOK)
	timedOut = errors.Is(t.write(ctx, w), os.ErrDeadlineExceeded)
}

// write sends what is queued, one event a write, until the stream has ended or
// the client is gone (ctx). net/http makes each write one chunk over HTTP/1.1.
// The error is a failed write's, above all os.ErrDeadlineExceeded.
func (t *httpTransport) write(ctx context.Context, w http.ResponseWriter) error {
	defer t.leave()
	rc := http.NewResponseController(w)
	for {
		next, ended := t.next()
		switch {
		case next.event == nil && ended:
			return nil
		case next.event == nil:
			select {
			case <-t.wake:
				continue
			case <-ctx.Done():
				return nil
			}
		}
		_ = rc.SetWriteDeadline(time.Now().Add(writeDeadline)) // not every connection has one
		n, err := w.Write(next.bytes)
		if err == nil {
			err = rc.Flush()
		}
		_ = rc.SetWriteDeadline(time.Time{}) // HTTP/2 would end the stream at it, written or not
		t.written(next.event, n, err)
		if err != nil {
			return err
		}
		t.wrote(n)
	}
}

// next returns the event to be written, which stays in the outbox until it has
// been; none if nothing waits.
func (t *httpTransport) next() (next pending, ended bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.outbox.empty() {
		return pending{}, t.ended
	}
	return t.outbox.items[0], t.ended
}

func (t *httpTransport) wrote(n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.outbox.wrote(n, time.Now())
}

// leave drops what waits: nobody writes it any more.
func (t *httpTransport) leave() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.returned = true
	t.outbox.release()
	t.outbox = outbox{}
}
