// Package gateway takes HTTP requests in and sends event streams out.
//
// The data has one way in: Gateway.Deliver, called by one goroutine with one
// batch after the other. The request has one way in: Gateway.Handler. They meet
// in the hub. DESIGN.md beside this file has the drawings.
//
// # Order
//
// A stream registers at the hub's position first. Then a replay sends what its
// client's cursor has not seen and that position has. Then the stream is live. A
// batch that arrives meanwhile only marks the stream, and the replay goes on up
// to the position after it. So there is no gap, no queue that grows during a
// replay, and no row that comes twice, except where the cursors overlap.
//
// # Cursors
//
// In a replay each event carries the position after it, which may be inside a
// transaction, so that a client which is cut off again and again gets ahead each
// time. In a live batch only the last event for a stream carries the position
// after the batch. The others carry the position before it, so that a connection
// which breaks between two of them repeats rows and never skips one. A stream
// whose client must first be told of a loss carries a stale cursor until then.
//
// # Back-pressure
//
// A stream hands its events to a transport, which queues and never blocks. A
// live client that does not read, and for which more waits than the buffer
// holds, is ended with slow_consumer and comes back with its cursor. A client
// that reads, and met a batch larger than its buffer, gets the rest from the log
// at its own pace. Neither holds up another. A replay waits for its own client
// before it reads the next page.
//
// # Memory
//
// A notification is encoded once for all streams that get it, into a buffer that
// the next batch is encoded over. A transport that cannot write an event at once
// keeps a copy, one for all streams.
//
// # What may not be assumed
//
// That an event was read because it was written. That events of different users
// have an order. That one notification comes only once.
package gateway
