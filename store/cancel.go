package store

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

const (
	cancelDelay    = 50 * time.Millisecond // most statements end by themselves in this time, and cost no cancel request
	cancelPatience = 5 * time.Second       // for Postgres to end the statement; then the connection is closed
)

// canceller is what a connection of a pool does when the context of its statement
// ends: it cancels the statement and keeps the connection. The driver's default
// closes the connection, so that every client that leaves in the middle of a
// replay costs Postgres a new session.
//
// A cancel request names a server process, not a statement, so it must not be on
// its way when the next statement begins. Postgres closes the connection of the
// request after it has signalled the process
// (https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-CANCELING-REQUESTS),
// and a process that waits for a statement ignores the signal. HandleUnwatchAfterCancel
// therefore waits for that close, and without it the connection is given up.
//
// A pooler may pass the request on later than that. Behind one the connection is
// closed, as by default.
type canceller struct {
	conn   *pgconn.PgConn
	direct *atomic.Bool // the pool's connections go to Postgres itself

	// Written by HandleCancel, which has returned when the other one is called.
	over chan struct{} // closed when the statement has ended; nil where none is to be cancelled
	sent chan bool     // whether no request is on its way any more
}

// HandleCancel begins to cancel the statement.
func (c *canceller) HandleCancel(context.Context) {
	if !c.direct.Load() {
		c.over = nil
		c.conn.Conn().SetDeadline(time.Now()) // a connection without deadlines is closed
		return
	}
	c.conn.Conn().SetDeadline(time.Now().Add(cancelPatience)) // as above
	c.over, c.sent = make(chan struct{}), make(chan bool, 1)
	go func() { c.sent <- c.cancel() }() // HandleUnwatchAfterCancel waits for it
}

// cancel sends the request, unless the statement ends before it must, and reports
// whether none is on its way when it returns.
func (c *canceller) cancel() bool {
	delay := time.NewTimer(cancelDelay)
	defer delay.Stop()
	select {
	case <-c.over:
		return true
	case <-delay.C:
	}
	ctx, cancel := context.WithTimeout(context.Background(), cancelPatience)
	defer cancel()
	return c.conn.CancelRequest(ctx) == nil && ctx.Err() == nil
}

// HandleUnwatchAfterCancel is called when the statement has ended.
func (c *canceller) HandleUnwatchAfterCancel() {
	deadline := time.Time{}
	if c.over != nil {
		close(c.over)
		if !<-c.sent {
			deadline = time.Unix(1, 0) // the next use fails, and the pool drops the connection
		}
	}
	c.conn.Conn().SetDeadline(deadline) // as above
}
