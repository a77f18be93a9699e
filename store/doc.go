// Package store is the gateway's side of Postgres: it follows what was
// captured, loads it in full, replays it and prunes it. Package schema installs
// and checks the objects that all this needs. The two and the packages below
// them are the only users of the driver.
//
// Order. Feed hands over batches: everything that became visible between two
// snapshots, in order of transaction ID. That is no order of commit inside a
// batch, but no row comes before the batch in which its transaction became
// visible, and none is left out, however long its transaction ran.
//
// Positions. A Cursor is a snapshot, and inside a transaction also the Place of
// the last row of it. The order of rows proves something inside a transaction
// only; between two the snapshot does.
//
// At least once. A batch that was not taken comes again. So may rows of the last
// minutes after a promotion, because the new server hands transaction IDs out again.
// Where rows cannot be brought, or rows that clients have were undone, a Batch or a
// ResetError says so. DESIGN.md says how that is known.
//
// Back-pressure. Feed polls again when the last batch has been taken, so a slow
// taker makes batches larger, up to a bound, and never queues them here: the
// log in Postgres is the queue.
//
// Memory. The rows that Load brings lie where the next batch's will, so they are
// good until theirs has been delivered. A page of a replay is its caller's.
//
// What may not be assumed: that a NOTIFY means a row, or a row a NOTIFY; that
// an Entry's row still exists, or still belongs to the same user; that two
// replicas are at the same position.
package store
