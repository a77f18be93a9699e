package gateway

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/seed-64e334f9/notification-gateway/store"
)

// hub knows who is connected and up to which position batches were delivered.
type hub struct {
	config  Config
	source  Source
	metrics *metrics

	complaints *complaints

	// sending is held while events that were chosen under mu are handed to
	// their streams, so that no ping carries a position whose rows are still on
	// their way. It is taken before mu, and no request waits for it.
	sending    sync.Mutex
	deliveries []delivery    // guarded by sending
	sheet      sheet         // of the deliveries' notifications; guarded by sending
	before     *store.Cursor // the position before the batch that is sent; guarded by sending
	catching   chan struct{} // one in it for each burst that is caught up with; capacity: maxCatching

	mu       sync.Mutex
	position *store.Cursor        // after the last delivered batch, nil before the first; what it points to never changes; guarded by mu
	partial  bool                 // the position is inside a transaction, of which a part has been delivered; guarded by mu
	users    map[string][]*stream // by user key, oldest first; guarded by mu
	count    int                  // streams in users; guarded by mu
	absent   int                  // those of them that replay and are not live yet; guarded by mu
	moves    uint64               // streams that came and went; guarded by mu
	wheel    wheel                // guarded by mu
	expiring expiry               // guarded by mu
	draining bool                 // guarded by mu
	empty    chan struct{}        // closed when draining and count is 0; guarded by mu
	next     chan struct{}        // closed by the next batch; nil while nobody waits for it; guarded by mu
	waiting  int                  // replays that wait for next; guarded by mu
}

func newHub(config Config, source Source, m *metrics) *hub {
	return &hub{
		config: config, source: source, metrics: m, complaints: &complaints{logger: config.Logger},
		users: map[string][]*stream{}, wheel: newWheel(config.PingInterval), empty: make(chan struct{}),
		catching: make(chan struct{}, maxCatching),
	}
}

// admit says why no stream can be opened now, or nil.
func (h *hub) admit() *httpError {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.refusal()
}

// refusal needs mu.
func (h *hub) refusal() *httpError {
	switch {
	case h.draining:
		return errDraining()
	case h.position == nil:
		return errStarting()
	case h.count >= h.config.MaxStreams:
		return errFull()
	}
	return nil
}

// register adds s at the hub's position, which it returns. A user's oldest
// stream makes room for the newest. first is queued before anything else can
// be; a stream that has nothing to replay is live at once.
func (h *hub) register(s *stream, live bool, first func(at store.Cursor) []*event) (store.Cursor, *httpError) {
	at, oldest, err := h.enter(s, live, first)
	if oldest != nil {
		h.tell(oldest, endReplaced)
	}
	return at, err
}

func (h *hub) enter(s *stream, live bool, first func(at store.Cursor) []*event) (at store.Cursor, oldest *stream, _ *httpError) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := h.refusal(); err != nil {
		return store.Cursor{}, nil, err
	}
	key := s.recipient.UserKey
	if all := h.users[key]; len(all) >= h.config.MaxStreamsPerUser {
		oldest = all[0]
		h.take(oldest, endReplaced)
	}
	h.users[key] = append(h.users[key], s)
	h.count++
	h.moves++
	h.wheel.add(s)
	h.expiring.add(s)
	s.live, s.told = live, h.position
	if !live {
		h.absent++
	}
	h.metrics.streams.Inc()
	h.metrics.opened.Inc()
	for _, e := range first(*h.position) {
		s.out.Send(e) // it is not served yet, so this only queues
	}
	return *h.position, oldest, nil
}

// goLive makes s, whose client was told the position told, live, unless a batch
// for its user came meanwhile; then it returns the position up to which the
// replay must go on. Inside a transaction it waits for the end: what is left may
// be more than any buffer holds, and a replay goes at the client's pace.
func (h *hub) goLive(ctx context.Context, s *stream, told store.Cursor) (to store.Cursor, live bool, _ error) {
	for {
		h.mu.Lock()
		switch {
		case s.gone:
			h.mu.Unlock()
			return to, false, errStreamEnded
		case !h.partial:
			defer h.mu.Unlock()
			if s.dirty {
				s.dirty = false
				return *h.position, false, nil
			}
			h.absent--
			s.live, s.told = true, &told
			if !told.Moved(*h.position, 0) {
				s.told = h.position // all streams share it
			}
			return *h.position, true, nil
		}
		s.dirty = true
		next := h.nextBatch()
		h.mu.Unlock()
		select {
		case <-next:
		case <-ctx.Done():
			return to, false, context.Cause(ctx)
		}
	}
}

// nextBatch is closed by the next batch, whatever it brings. It needs mu.
func (h *hub) nextBatch() <-chan struct{} {
	if h.next == nil {
		h.next = make(chan struct{})
	}
	return h.next
}

// changes returns how many streams came and went since the start.
func (h *hub) changes() uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.moves
}

// left reports whether s has left the hub.
func (h *hub) left(s *stream) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return s.gone
}

// end takes s out and tells its client why.
func (h *hub) end(s *stream, code string) {
	if h.remove(s, code) {
		h.tell(s, code)
	}
}

// tell sends the last event to a stream that was taken out.
func (h *hub) tell(s *stream, code string) {
	how := endingOf(code)
	var retry time.Duration
	if code == endDraining {
		retry = h.config.retry()
	}
	s.out.End(errorEvent(how.code, how.message, retry))
}

// slow ends a stream for which too much waits.
func (h *hub) slow(s *stream) { h.end(s, endSlow) }

// fail ends a stream whose replay could not go on.
func (h *hub) fail(s *stream) { h.end(s, endInternal) }

// leave takes a stream out whose connection is over: the client left, or was
// stuck and there is no way left to tell it.
func (h *hub) leave(s *stream, stuck bool) {
	code := endClient
	if stuck {
		code = endSlow
	}
	h.remove(s, code)
}

// remove reports false when s had left already.
func (h *hub) remove(s *stream, code string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.take(s, code)
}

// take is remove for who holds mu.
func (h *hub) take(s *stream, code string) bool {
	if s.gone {
		return false
	}
	s.gone = true
	if !s.live {
		h.absent--
	}
	key := s.recipient.UserKey
	if rest := slices.DeleteFunc(h.users[key], func(o *stream) bool { return o == s }); len(rest) == 0 {
		delete(h.users, key)
	} else {
		h.users[key] = rest
	}
	h.wheel.remove(s)
	h.expiring.remove(s)
	h.count--
	h.moves++
	h.metrics.streams.Dec()
	h.metrics.closed.WithLabelValues(code).Inc()
	if code == endSlow {
		h.metrics.slow.Inc()
	}
	if h.draining && h.count == 0 {
		close(h.empty)
	}
	return true
}
