package gateway

import (
	"time"
)

// wheel spreads the pings of all streams over the ping interval: one bucket is
// due at each tick. A stream costs two integers, not a timer.
type wheel struct {
	tick    time.Duration
	buckets [][]*stream
	due     int // the bucket of the next tick
	next    int // the bucket of the next stream
}

const maxTick = time.Second

func newWheel(interval time.Duration) wheel {
	n := max(1, int((interval+maxTick-1)/maxTick))
	if n < 4 {
		n = 4
	}
	return wheel{tick: interval / time.Duration(n), buckets: make([][]*stream, n)}
}

// add puts s behind the bucket that is due next, in turn with the others.
func (w *wheel) add(s *stream) {
	s.bucket = w.next
	w.next = (w.next + 1) % len(w.buckets)
	s.slot = len(w.buckets[s.bucket])
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

// tick pings one bucket's streams and ends those whose token has expired.
func (h *hub) tick(now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for second, streams := range h.expiring {
		if second > now.Unix() {
			continue
		}
		for s := range streams {
			h.end(s, endExpired)
		}
	}
	due := h.wheel.buckets[h.wheel.due]
	h.wheel.due = (h.wheel.due + 1) % len(h.wheel.buckets)
	if len(due) == 0 {
		return
	}
	plain := pingEvent("", now)
	moved := pingEvent(h.position.String(), now)
	for i := len(due) - 1; i >= 0; i-- { // from the end: push may take one out
		s := due[i]
		if !s.live {
			continue // its replay is traffic enough, and its position is its own
		}
		if h.position.Moved(s.told, h.config.CursorRefresh) {
			s.told = h.position
			h.push(s, moved)
		} else {
			h.push(s, plain)
		}
	}
}
