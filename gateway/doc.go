// Package gateway takes HTTP requests in and sends event streams out.
//
// The data has one way in: Deliver, called by one goroutine with one batch
// after the other. The request has one way in: Handler. They meet in the hub.
//
// Order. A stream registers at the hub's position S first; then what its
// client's cursor has not seen and S has is replayed; then it is live. A batch
// that arrives meanwhile only marks the stream as dirty, and the replay goes on
// up to the new position. So there is no gap, no queue that grows during a
// replay, and no row that comes twice but where the cursors themselves overlap.
//
// Cursors. In a replay each event carries the position after it, which may be
// inside a transaction, so that a client which is cut off again and again gets
// ahead each time. Live only the last event of a batch does; the earlier ones
// carry the position before, so that a connection that breaks between them
// repeats and never skips. A stream that must first be told of a loss carries a
// stale cursor until it has been.
//
// Back-pressure. A stream hands its events to a transport, which queues and
// never blocks. A live client that does not read, and lets more than the buffer
// pile up, is ended with slow_consumer and comes back with its cursor; one that
// reads, and met a batch larger than its buffer, gets the rest from the log at
// its own pace. Neither holds up another. A replay waits for its own client
// before it reads the next page.
//
// Memory. A notification is encoded once for all streams that get it, over those
// of the batch before. A transport that cannot write it at once keeps a copy, one
// for all streams.
//
// What may not be assumed: that an event was read because it was written; that
// events of different users have an order; that one ID comes only once.
package gateway
