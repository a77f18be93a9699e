package gateway

import (
	"context"
	"time"
)

// outbox holds what a stream's client has not taken yet, and says by that
// whether the client is too slow. It is the same for each transport, which
// guards it with its own lock and decides what the bytes of an event are.
type outbox struct {
	items []pending
	size  int             // bytes that wait
	since time.Time       // of the last progress: a byte was taken, or the first one came
	idle  []chan struct{} // closed when nothing waits any more
}

// pending is an event of which some bytes have not been written.
type pending struct {
	event *event // nil for the head of a response
	bytes []byte // the rest of it
}

func (o *outbox) empty() bool { return len(o.items) == 0 }

// fits reports whether n more bytes may wait where limit is the bound. An event
// that is larger than the whole bound fits when nothing else waits: no client
// could ever get it otherwise.
func (o *outbox) fits(n, limit int) bool { return o.size == 0 || o.size+n <= limit }

// push adds an event's bytes. The caller has retained the event.
func (o *outbox) push(e *event, b []byte, now time.Time) {
	if o.empty() {
		o.since = now
	}
	o.items = append(o.items, pending{e, b})
	o.size += len(b)
}

// prepend puts a response's head in front of the first event, so that both leave
// in one write.
func (o *outbox) prepend(head []byte, now time.Time) {
	if o.empty() {
		o.push(nil, head, now)
		return
	}
	first := &o.items[0]
	first.bytes = append(head, first.bytes...)
	o.size += len(head)
	o.since = now
}

// wrote removes the next n bytes, all of one event. It returns that event if
// these were the last ones of it.
func (o *outbox) wrote(n int, now time.Time) (done *event) {
	first := &o.items[0]
	first.bytes = first.bytes[n:]
	o.size -= n
	if n > 0 {
		o.since = now
	}
	if len(first.bytes) > 0 {
		return nil
	}
	done = first.event
	*first = pending{}
	if o.items = o.items[1:]; o.empty() {
		o.items = nil
		o.release()
	}
	return done
}

// stalled is for how long the client has taken nothing while something waited.
func (o *outbox) stalled(now time.Time) time.Duration {
	if o.empty() {
		return 0
	}
	return now.Sub(o.since)
}

// wait returns a channel that is closed when nothing waits any more.
func (o *outbox) wait() <-chan struct{} {
	idle := make(chan struct{})
	o.idle = append(o.idle, idle)
	return idle
}

// release ends every wait.
func (o *outbox) release() {
	for _, c := range o.idle {
		close(c)
	}
	o.idle = nil
}

func waitIdle(ctx context.Context, idle <-chan struct{}) error {
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
