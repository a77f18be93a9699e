package gateway

import "time"

const (
	maxTick    = time.Second // between two buckets of the wheel
	minBuckets = 4
	pingChunk  = 64 // pings in a row, before notifications get their turn
)

// wheel spreads the pings of all streams over the ping interval: one bucket is
// due at each tick. A stream costs two numbers and no timer. It is guarded by
// hub.mu.
type wheel struct {
	tick    time.Duration
	buckets [][]*stream
	due     int // the bucket of the next tick
	next    int // the bucket of the next stream
}

func newWheel(interval time.Duration) wheel {
	n := max(minBuckets, int((interval+maxTick-1)/maxTick))
	return wheel{tick: interval / time.Duration(n), buckets: make([][]*stream, n)}
}

// add puts a stream into the next bucket, in turn with the other streams.
func (w *wheel) add(s *stream) {
	s.bucket = int32(w.next)
	w.next = (w.next + 1) % len(w.buckets)
	s.slot = int32(len(w.buckets[s.bucket]))
	w.buckets[s.bucket] = append(w.buckets[s.bucket], s)
}

// remove moves the bucket's last stream into the gap.
func (w *wheel) remove(s *stream) {
	b := w.buckets[s.bucket]
	end := len(b) - 1
	b[s.slot] = b[end]
	b[s.slot].slot = s.slot
	b[end] = nil
	w.buckets[s.bucket] = b[:end]
}

// turn returns the bucket that is due and goes on to the next.
func (w *wheel) turn() int {
	due := w.due
	w.due = (w.due + 1) % len(w.buckets)
	return due
}

// tick ends the streams whose token has expired, and pings those of one bucket.
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

// pings are the events of one tick, each encoded once.
type pings struct {
	now     time.Time
	plain   *event
	moved   *event    // carries the position movedTo
	movedTo *position // nil until a stream needs it
}

// at returns the ping that carries a position; nil is none.
func (p *pings) at(moved *position) *event {
	if moved == nil {
		return p.plain
	}
	if p.movedTo != moved {
		p.moved, p.movedTo = pingEvent(moved.id(), p.now), moved
	}
	return p.moved
}

// ping pings some streams of a bucket: of those with an index below left the
// last ones. It returns how many are left. It goes from the end, because a stream
// that is removed meanwhile is replaced by the last one, which has had its ping.
func (h *hub) ping(bucket, left int, p *pings) int {
	h.sending.Lock()
	defer h.sending.Unlock()
	h.mu.Lock()
	all := h.wheel.buckets[bucket]
	left = min(left, len(all))
	first := max(0, left-pingChunk)
	for _, s := range all[first:left] {
		h.deliveries = append(h.deliveries, delivery{to: s, at: h.pingIDLocked(s), droppable: true})
	}
	h.mu.Unlock()
	for i := range h.deliveries {
		h.deliveries[i].event = p.at(h.deliveries[i].at)
	}
	h.handOverLocked(nil)
	return first
}

// pingIDLocked returns the position that a stream's ping carries: that of its
// client, where it has moved, else nil. The position of a stream that catches up
// is its replay's.
func (h *hub) pingIDLocked(s *stream) *position {
	if s.state != streamLive || s.lastSent == h.position {
		return nil
	}
	h.reachedLocked(s)
	at := h.positionOfLocked(s, h.position)
	if !at.Moved(s.lastSent.Cursor, h.config.CursorRefresh) {
		return nil
	}
	s.lastSent = at
	return at
}
