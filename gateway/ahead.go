package gateway

import "github.com/seed-64e334f9/notification-gateway/store"

// A client may come from a replica that was ahead of this one. Until the hub's
// position has reached what such a client had seen, its stream is ahead: it gets
// no row that its client has seen, and the ids that it gets are of the union of
// both positions, because an id must never take a client back. Which of two
// positions is ahead can be said within one incarnation of the server only.

// setAheadLocked notes what the client of a stream has seen, where that is ahead
// of the hub's position.
func (h *hub) setAheadLocked(s *stream, seen store.Cursor) {
	s.ahead = nil
	if seen.Ahead(h.position.Cursor) {
		s.ahead = &seen
	}
}

// positionOfLocked returns the position that the client of a live stream has at
// the hub's position at.
func (h *hub) positionOfLocked(s *stream, at *position) *position {
	if s.ahead == nil {
		return at
	}
	if !s.ahead.Ahead(at.Cursor) {
		return at
	}
	return &position{Cursor: s.ahead.Union(at.Cursor)}
}

// reachedLocked forgets that a stream is ahead when the hub's position has
// reached what its client had seen, or is of another incarnation.
func (h *hub) reachedLocked(s *stream) {
	if s.ahead != nil && !s.ahead.Ahead(h.position.Cursor) {
		s.ahead = nil
	}
}

// hasSeen reports whether the client had seen a row when it came. at is a position
// of the incarnation that the row is of.
func (s *stream) hasSeen(e store.Entry, at store.Cursor) bool {
	return s.ahead != nil && s.ahead.SameIncarnation(at) && s.ahead.Sees(e)
}
