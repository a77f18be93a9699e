package gateway

import (
	"sync"
	"time"

	"github.com/seed-64e334f9/notification-gateway/store"
)

// hub knows which streams are open and up to which position batches were
// delivered.
//
// It has two locks. sending is held while events are handed to streams, so that
// no ping can carry a position whose rows are still on their way. mu guards what
// the hub knows; requests take it, so it is never held while something is read,
// encoded or written. Whoever needs both takes sending first.
type hub struct {
	config  Config
	source  Source
	metrics *metrics
	log     *rateLimitedLog

	replays      *replayBudget
	catchUpSlots chan struct{} // holds one value for each stream that fell behind and catches up; capacity: maxFallenBehind

	sending    sync.Mutex
	deliveries []delivery  // what is handed over next; guarded by sending
	events     eventBuffer // the deliveries' notifications; guarded by sending
	previous   *position   // the position before the batch that is delivered; guarded by sending

	mu         sync.Mutex
	position   *position     // after the last delivered batch; nil before the first; guarded by mu
	partial    bool          // the position is inside a transaction, of which a part has been delivered; guarded by mu
	streams    registry      // guarded by mu
	open       int           // streams in the registry; guarded by mu
	catchingUp int           // those of them that catch up; guarded by mu
	filtering  int           // those of them whose clients want some types only; guarded by mu
	changing   int           // those of them whose clients want changes; guarded by mu
	counts     unreadCounts  // guarded by mu
	churn      uint64        // streams that were opened and closed since the start; guarded by mu
	wheel      wheel         // guarded by mu
	expiring   expiry        // guarded by mu
	draining   bool          // guarded by mu
	empty      chan struct{} // closed when draining and no stream is open; guarded by mu
	next       chan struct{} // closed by the next batch; nil while nobody waits for it; guarded by mu
	waiting    int           // replays that wait for Postgres to answer again; guarded by mu
}

func newHub(config Config, source Source, m *metrics) *hub {
	return &hub{
		config: config, source: source, metrics: m, log: &rateLimitedLog{logger: config.Logger},
		counts: newUnreadCounts(), streams: newRegistry(), wheel: newWheel(config.PingInterval), empty: make(chan struct{}),
		replays: newReplayBudget(config.StreamBuffer), catchUpSlots: make(chan struct{}, maxFallenBehind),
	}
}

// admit says why no stream can be opened now, or nil.
func (h *hub) admit() *httpError {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.admitLocked()
}

func (h *hub) admitLocked() *httpError {
	switch {
	case h.draining:
		return errDraining()
	case h.position == nil:
		return errStarting()
	case h.open >= h.config.MaxStreams:
		return errFull()
	}
	return nil
}

// registerTries is how often the first events are made without the lock: the hub
// may move to the next position meanwhile.
const registerTries = 3

// register adds s at the hub's position, which it returns. Past the limit of
// streams for one recipient the oldest is ended. first makes the events that s
// gets before any other; it may be called several times. A stream that has
// nothing to replay is live at once.
func (h *hub) register(s *stream, live bool, first func(at *position) []*event) (store.Cursor, *httpError) {
	h.mu.Lock()
	for try := 1; ; try++ {
		if err := h.admitLocked(); err != nil {
			h.mu.Unlock()
			return store.Cursor{}, err
		}
		at := h.position
		if try > registerTries { // batches come very fast: then with the lock held
			return h.registerAndUnlock(s, live, first(at)), nil
		}
		h.mu.Unlock()
		events := first(at)
		h.mu.Lock()
		if h.position == at && h.admitLocked() == nil {
			return h.registerAndUnlock(s, live, events), nil
		}
	}
}

// registerAndUnlock is register with mu held, which it releases.
func (h *hub) registerAndUnlock(s *stream, live bool, first []*event) store.Cursor {
	replaced := h.registerLocked(s, live, first)
	at := h.position.Cursor
	h.mu.Unlock()
	if replaced != nil {
		h.sendFinal(replaced, endReplaced)
	}
	return at
}

// registerLocked returns the stream that it removed to make room, or nil.
func (h *hub) registerLocked(s *stream, live bool, first []*event) (replaced *stream) {
	if own := h.streams.of(s.recipient.UserKey); len(own) >= h.config.MaxStreamsPerUser {
		replaced = own[0]
		h.removeLocked(replaced, endReplaced)
	}
	h.streams.add(s)
	h.metrics.groupKeys.Set(float64(h.streams.groupKeys()))
	h.wheel.add(s)
	h.expiring.add(s)
	s.lastSent = h.position
	h.setStateLocked(s, streamCatchingUp)
	if live {
		h.setStateLocked(s, streamLive)
	}
	for _, e := range first {
		s.out.Send(e) // before Serve this only queues
	}
	return replaced
}

// nextBatchLocked returns a channel that the next batch closes, whatever it
// brings.
func (h *hub) nextBatchLocked() <-chan struct{} {
	if h.next == nil {
		h.next = make(chan struct{})
	}
	return h.next
}

// streamChurn returns how many streams were opened and closed since the start.
func (h *hub) streamChurn() uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.churn
}

// closed reports whether s has left the hub.
func (h *hub) closed(s *stream) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return s.state == streamClosed
}

// end removes s and tells its client why.
func (h *hub) end(s *stream, code string) {
	if h.remove(s, code) {
		h.sendFinal(s, code)
	}
}

// replacedTime is the reconnection time of a stream that was replaced. With the
// usual one the tabs of a user who has too many would replace each other without
// end.
const replacedTime = time.Minute

// sendFinal sends the last event to a stream that was removed.
func (h *hub) sendFinal(s *stream, code string) {
	how := endingOf(code)
	var retry time.Duration
	switch code {
	case endDraining, endRegrouped:
		retry = h.config.retry()
	case endReplaced:
		retry = replacedTime
	}
	s.out.End(errorEvent(how.code, how.message, retry))
}

// onClose removes a stream whose connection is closed: the client left, or it
// took nothing for so long that there is no way left to tell it anything.
func (h *hub) onClose(s *stream, timedOut bool) {
	code := endClient
	if timedOut {
		code = endSlow
	}
	h.remove(s, code)
}

// remove reports false when s was removed before.
func (h *hub) remove(s *stream, code string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.removeLocked(s, code)
}

func (h *hub) removeLocked(s *stream, code string) bool {
	if s.state == streamNew || s.state == streamClosed {
		return false
	}
	h.streams.remove(s)
	h.metrics.groupKeys.Set(float64(h.streams.groupKeys()))
	h.wheel.remove(s)
	h.expiring.remove(s)
	h.setStateLocked(s, streamClosed)
	h.metrics.closed.WithLabelValues(code).Inc()
	if code == endSlow {
		h.metrics.slow.Inc()
	}
	return true
}
