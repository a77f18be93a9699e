package gateway

import (
	"container/list"
	"context"
	"sync"
)

const (
	replayMemory = 32 << 20 // bytes of rows that all replays together may have in memory
	pageMax      = 48 << 10 // bytes of rows in a page while few replays are under way
	pageMin      = 4 << 10  // the same while there are very many
)

// replayBudget is the memory that all replays share. A replay takes what a page
// needs, reads the page, hands it to its stream's outbox and gives the memory
// back. It never holds any while it waits for its client: a client that does not
// read costs a page in its outbox, and no other replay waits for it. Replays
// wait in turn, each for one page, so none can keep the others out.
//
// The more replays are under way the smaller is a page, because what is in the
// outboxes of clients that do not read grows with their number.
type replayBudget struct {
	page int // pageMax, or less where a stream's buffer holds less

	mu      sync.Mutex
	free    int       // bytes; may be below zero by what was counted without waiting; guarded by mu
	pages   int       // for which memory is taken; guarded by mu
	replays int       // under way; guarded by mu
	waiting list.List // of *budgetTurn, the first one first; guarded by mu
}

// budgetTurn is a replay that waits for memory.
type budgetTurn struct {
	bytes   int
	granted chan struct{} // closed when it has them
}

// newReplayBudget makes the budget for streams in whose buffers so many bytes
// may wait. A page and what is around each event must fit into a buffer.
func newReplayBudget(streamBuffer int) *replayBudget {
	return &replayBudget{free: replayMemory, page: max(1, min(pageMax, streamBuffer*3/4))}
}

// begin counts a replay until it calls end.
func (b *replayBudget) begin() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.replays++
}

func (b *replayBudget) end() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.replays--
}

// take waits for the memory of a page, whose size it returns. The caller gives
// it back. Its error is ctx's cause.
func (b *replayBudget) take(ctx context.Context) (bytes int, err error) {
	b.mu.Lock()
	turn := &budgetTurn{min(b.page, max(pageMin, replayMemory/max(1, b.replays))), make(chan struct{})}
	place := b.waiting.PushBack(turn)
	b.grantLocked()
	b.mu.Unlock()
	select {
	case <-turn.granted:
		return turn.bytes, nil
	case <-ctx.Done():
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	select {
	case <-turn.granted: // at the same moment
		b.free += turn.bytes
		b.pages--
	default:
		b.waiting.Remove(place)
	}
	b.grantLocked()
	return 0, context.Cause(ctx)
}

// give returns the memory of a page.
func (b *replayBudget) give(bytes int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.free += bytes
	b.pages--
	b.grantLocked()
}

// count takes memory without waiting, or gives it back where bytes is negative:
// for a list of IDs, and for a row that no buffer holds. Others wait longer then.
func (b *replayBudget) count(bytes int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.free -= bytes
	b.grantLocked()
}

// grantLocked gives memory to those who wait, in their order. One page is always
// granted, or lists that take all the memory would wait for each other.
func (b *replayBudget) grantLocked() {
	for first := b.waiting.Front(); first != nil; first = b.waiting.Front() {
		turn := first.Value.(*budgetTurn)
		if b.free < turn.bytes && b.pages > 0 {
			return
		}
		b.free -= turn.bytes
		b.pages++
		b.waiting.Remove(first)
		close(turn.granted)
	}
}
