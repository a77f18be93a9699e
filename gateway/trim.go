package gateway

import "runtime/debug"

const (
	stormStreams = 1000 // streams opened and closed that are worth a garbage collection
	calmShare    = 100  // a storm is over when a tick brings less than this part of it
)

// heapTrimmer gives memory back to the system when a storm of connects is over.
// An idle gateway allocates nothing, so the next collection would come after two
// minutes, and the pages that it frees would go back even later. Owned by the
// goroutine of Gateway.Run.
type heapTrimmer struct {
	seen  uint64 // the churn at the last tick
	churn uint64 // streams opened and closed since memory was given back
}

// tick is told how many streams were opened and closed since the start. It
// reports whether it gave memory back.
func (t *heapTrimmer) tick(churn uint64) (trimmed bool) {
	since := churn - t.seen
	t.seen = churn
	t.churn += since
	if t.churn < stormStreams || since > t.churn/calmShare {
		return false
	}
	t.churn = 0
	debug.FreeOSMemory()
	return true
}
