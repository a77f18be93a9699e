package gateway

import (
	"context"
	"errors"
	"net/http"
	"os"
	"sync"
	"time"
)

// queue is the portable transport: events wait here until the request's own
// goroutine sends them through net/http. It works over TLS, HTTP/2 and on every
// system, and costs some 30 KB a stream.
type queue struct {
	limit   int                                 // bytes that may wait
	written func(e *event, wrote int, at error) // tells the metrics; called by Serve's goroutine

	mu      sync.Mutex
	waiting []*event        // guarded by mu
	size    int             // bytes of waiting and of the event being written; guarded by mu
	since   time.Time       // of the last progress; guarded by mu
	ended   bool            // nothing more is taken; guarded by mu
	idle    []chan struct{} // closed when size is 0 or the writer is gone; guarded by mu
	gone    bool            // the writer has returned; guarded by mu

	wake chan struct{} // capacity 1: one pending wake is enough, the writer takes all
}

func newQueue(limit int, written func(*event, int, error)) *queue {
	return &queue{limit: limit, written: written, wake: make(chan struct{}, 1)}
}

// Send queues e. An event larger than the whole buffer is taken when nothing
// else waits: no client could ever get it otherwise.
func (q *queue) Send(e *event) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.ended || q.gone {
		return true // it is over; the client resumes from its cursor
	}
	if q.size > 0 && q.size+len(e.chunk) > q.limit {
		return false
	}
	q.push(e)
	return true
}

// End queues e whatever waits, and takes nothing after it.
func (q *queue) End(e *event) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.ended || q.gone {
		return
	}
	q.ended = true
	q.push(e)
}

// push needs mu.
func (q *queue) push(e *event) {
	if q.size == 0 {
		q.since = time.Now()
	}
	q.waiting = append(q.waiting, e.retain())
	q.size += len(e.chunk)
	select {
	case q.wake <- struct{}{}:
	default: // a wake is pending already
	}
}

// Stalled goes by whole events.
func (q *queue) Stalled() time.Duration {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.size == 0 {
		return 0
	}
	return time.Since(q.since)
}

// Drained waits for the writer to have written everything.
func (q *queue) Drained(ctx context.Context) error {
	q.mu.Lock()
	if q.gone {
		q.mu.Unlock()
		return errStreamEnded
	}
	if q.size == 0 {
		q.mu.Unlock()
		return nil
	}
	idle := make(chan struct{})
	q.idle = append(q.idle, idle)
	q.mu.Unlock()
	return waitIdle(ctx, idle)
}

func waitIdle(ctx context.Context, idle <-chan struct{}) error {
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Serve returns when the stream is over.
func (q *queue) Serve(w http.ResponseWriter, r *http.Request, replay func(context.Context), gone func(stuck bool)) {
	ctx, cancel := context.WithCancel(r.Context())
	var replaying sync.WaitGroup
	defer replaying.Wait()
	defer cancel()
	if replay != nil {
		replaying.Go(func() { replay(ctx) })
	}
	stuck := false
	defer func() { gone(stuck) }()
	if r.ProtoMajor == 1 { // HTTP/2 would end the whole connection
		w.Header().Set("Connection", "close")
	}
	w.WriteHeader(http.StatusOK)
	stuck = errors.Is(q.write(ctx, w), os.ErrDeadlineExceeded)
}

// write sends what is queued, one event a write, which net/http makes one chunk
// over HTTP/1.1 and one DATA frame or more over HTTP/2, until the stream has ended or
// the client is gone (ctx). Its error is a failed write's, above all
// os.ErrDeadlineExceeded.
func (q *queue) write(ctx context.Context, w http.ResponseWriter) error {
	defer q.leave()
	rc := http.NewResponseController(w)
	for {
		q.mu.Lock()
		batch, ended := q.waiting, q.ended
		q.waiting = nil
		q.mu.Unlock()
		for _, e := range batch {
			_ = rc.SetWriteDeadline(time.Now().Add(writeDeadline)) // not every connection has one
			n, err := w.Write(e.plain())
			if err == nil {
				err = rc.Flush()
			}
			_ = rc.SetWriteDeadline(time.Time{}) // HTTP/2 would end the stream at it, written or not
			q.written(e, n, err)
			if err != nil {
				return err
			}
			q.wrote(len(e.chunk))
		}
		if ended {
			return nil
		}
		select {
		case <-q.wake:
		case <-ctx.Done():
			return nil
		}
	}
}

func (q *queue) wrote(n int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.size, q.since = q.size-n, time.Now()
	if q.size == 0 {
		q.release()
	}
}

func (q *queue) leave() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.gone = true
	q.waiting = nil
	q.release()
}

// release needs mu.
func (q *queue) release() {
	for _, c := range q.idle {
		close(c)
	}
	q.idle = nil
}
