package gateway

import (
	"time"

	"github.com/seed-64e334f9/notification-gateway/store"
)

// wheel spreads the pings of all streams over the ping interval: one bucket is
// due at each tick. A stream costs two numbers, not a timer.
type wheel struct {
	tick    time.Duration
	buckets [][]*stream
	due     int // the bucket of the next tick
	next    int // the bucket of the next stream
}

const (
	maxTick   = time.Second
	pingChunk = 64 // pings in a row, before notifications get their turn
)

func newWheel(interval time.Duration) wheel {
	n := max(1, int((interval+maxTick-1)/maxTick))
	if n < 4 {
		n = 4
	}
	return wheel{tick: interval / time.Duration(n), buckets: make([][]*stream, n)}
}

// add puts s behind the bucket that is due next, in turn with the others.
func (w *wheel) add(s *stream) {
	s.bucket = int32(w.next)
	w.next = (w.next + 1) % len(w.buckets)
	s.slot = int32(len(w.buckets[s.bucket]))
	w.buckets[s.bucket] = append(w.buckets[s.bucket], s)
}

func (w *wheel) remove(s *stream) {
	b := w.buckets[s.bucket]
	end := len(b) - 1
	b[s.slot] = b[end]
	b[s.slot].slot = s.slot
	b[end] = nil
	w.buckets[s.bucket] = b[:end]
}

// turn returns the bucket that is due and moves on.
func (w *wheel) turn() int {
	due := w.due
	w.due = (w.due + 1) % len(w.buckets)
	return due
}

// tick ends the streams whose token has expired and pings one bucket's.
func (h *hub) tick(now time.Time) {
	h.mu.Lock()
	expired := h.expiring.expired(now.Unix())
	bucket := h.wheel.turn()
	left := len(h.wheel.buckets[bucket])
	h.mu.Unlock()
	for _, s := range expired {
		h.end(s, endExpired)
	}
	p := pings{now: now, plain: pingEvent("", now)}
	for left > 0 {
		left = h.ping(bucket, left, &p)
	}
}

// pings are the events of one tick, encoded once.
type pings struct {
	now   time.Time
	plain *event
	moved *event        // with the position at
	at    *store.Cursor // nil before it is needed
}

// ping pings some streams of a bucket, of those below the index left, from the
// end, and returns how many are left. Who leaves meanwhile is replaced by the
// bucket's last, which has had its ping.
func (h *hub) ping(bucket, left int, p *pings) int {
	h.sending.Lock()
	defer h.sending.Unlock()
	h.mu.Lock()
	all := h.wheel.buckets[bucket]
	left = min(left, len(all))
	first := max(0, left-pingChunk)
	for _, s := range all[first:left] {
		if !s.live {
			// Its position is its own, and its replay may wait for Postgres.
			h.deliveries = append(h.deliveries, delivery{to: s, event: p.plain, spare: true})
			continue
		}
		e := p.plain
		if s.told != h.position && h.position.Moved(*s.told, h.config.CursorRefresh) {
			if p.at != h.position {
				p.at, p.moved = h.position, pingEvent(h.position.String(), p.now)
			}
			s.told, e = h.position, p.moved
		}
		h.deliveries = append(h.deliveries, delivery{to: s, event: e, spare: true})
	}
	h.mu.Unlock()
	h.send()
	return first
}
