package gateway

import "github.com/seed-64e334f9/notification-gateway/store"

// eventBuffer is where the notifications of one batch are encoded, each when the
// first stream gets it. Most are written to all their streams at once, and then
// the next batch is encoded over them: so a busy gateway leaves no garbage. It is
// guarded by hub.sending.
type eventBuffer struct {
	previous *position
	rows     []rowEvents // by the row's index in the batch
	events   []event
	bytes    []byte
}

// rowEvents are the events of one row, which differ in their id. Each is nil
// until a stream gets it.
type rowEvents struct {
	previous *event    // carries the position before the batch
	other    *event    // carries the position otherAt
	otherAt  *position // mostly that after the batch
}

const maxIdleBuffer = 1 << 20 // bytes that are kept for the next batch

// begin makes room for the rows of a batch that comes after a position.
func (b *eventBuffer) begin(rows int, previous *position) {
	b.previous = previous
	if cap(b.rows) < rows {
		b.rows = make([]rowEvents, rows)
	}
	b.rows = b.rows[:rows]
}

// row returns the event of the row with index i, with the position at as its id.
// It is good until reset; an event that must be held for longer is retained.
func (b *eventBuffer) row(i int, at *position, n *store.Notification) *event {
	known := &b.rows[i]
	switch {
	case at == b.previous:
		if known.previous == nil {
			known.previous = b.encode(at.id(), n)
		}
		return known.previous
	case at != known.otherAt:
		known.other, known.otherAt = b.encode(at.id(), n), at
	}
	return known.other
}

// encode is notificationEvent with the bytes in the buffer.
func (b *eventBuffer) encode(id string, n *store.Notification) *event {
	if n.Err != nil {
		return notificationEvent(id, *n)
	}
	start := len(b.bytes)
	name := eventName(n.Change)
	b.bytes = appendEvent(b.bytes, id, name, 0, n.Data)
	b.events = append(b.events, event{
		name: name, chunk: b.bytes[start:len(b.bytes):len(b.bytes)], captured: n.InsertedAt, shared: true,
	})
	return &b.events[len(b.events)-1] // stays good when the slices grow: what was encoded before stays where it is
}

// reset ends what row returned.
func (b *eventBuffer) reset() {
	clear(b.events)
	clear(b.rows)
	b.previous, b.rows, b.events, b.bytes = nil, b.rows[:0], b.events[:0], b.bytes[:0]
	if cap(b.bytes) > maxIdleBuffer {
		*b = eventBuffer{}
	}
}
