package gateway

import "runtime/debug"

// stormStreams is how many streams must have been opened or closed before what
// that took is worth a garbage collection.
const stormStreams = 1000

// settling notices the end of a storm of connects, whose garbage would
// otherwise stay with an idle process until the next one: a collection is due
// only when the heap has doubled, and idle streams allocate nothing. Owned by
// Run's goroutine.
type settling struct {
	seen  uint64 // streams opened and closed up to the last tick
	moved uint64 // since memory was given back
}

// tick is told how many streams were opened and closed since the start, and
// gives memory back when a storm has passed.
func (s *settling) tick(changes uint64) (gaveBack bool) {
	since := changes - s.seen
	s.seen = changes
	s.moved += since
	if s.moved < stormStreams || since > s.moved/100 {
		return false
	}
	s.moved = 0
	debug.FreeOSMemory()
	return true
}
