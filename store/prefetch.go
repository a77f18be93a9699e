package store

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

const (
	prefetchName   = "prefetch"            // of the prepared statement
	prefetchRows   = 250                   // rows of a poll that brings them in full; the rest comes with a poll of the log alone
	prefetchShare  = 0.5                   // usage from which on rows come with their polls
	prefetchQuick  = 2 * time.Millisecond  // maxPerRow: a slower view must not hold up polls
	prefetchGrace  = 20 * time.Millisecond // more for a poll, because a busy machine is no slow view
	prefetchPause  = time.Minute           // without it after a failure or a slow poll
	prefetchSize   = 16 << 10              // bytes of a row; 250 rows fit into the server's default work_mem, where they are sorted
	prefetchMemory = 1 << 20               // bytes that are kept for the next poll
)

// fullPollSQL is pollSQL with two columns more, from the view: the data unless it
// is large, and whether Postgres has checked it. They are null where the view has
// no such row for that user: others may hold rows of the same ID. Sorted, all rows
// are made before the first is sent, so that we are not woken for each few of them.
func fullPollSQL(server *server) string {
	return server.typed(pollHead + `, '', false
UNION ALL SELECT l.*, f.data, f.checked
FROM (` + pollRows + `) l (snapshot, inserted_at, xid, position, user_key, item_id, disconnect, kind)
LEFT JOIN LATERAL (SELECT CASE WHEN octet_length(data) <= ` + strconv.Itoa(prefetchSize) + ` THEN data END AS data, checked
  FROM (SELECT data::text AS data, pg_typeof(data) IN ('json'::regtype, 'jsonb'::regtype) AS checked
    FROM (SELECT id, user_key, data FROM notification_gateway.feed
      WHERE id = (CASE WHEN l.disconnect = '' AND l.kind = '' AND l.item_id <> '' THEN l.item_id END)::ID_TYPE
        AND user_key::text = l.user_key COLLATE "C"
      OFFSET 0) f LIMIT 1) f OFFSET 0) f ON true
ORDER BY 3, 4`) // xid, position
}

// prefetch brings full rows with the poll that finds them, which spares every
// notification a second round trip, while most of what polls find is loaded
// anyway. Load takes from it what is there.
//
// It can only save time: without it, and when its statement fails, everything
// is loaded as usual. It is disabled while the gateway has no stream, and where
// the view is slow, because it shares the deadline of the poll. BenchmarkRowInFull
// says what it saves: of one row a third of the time from INSERT to the row.
type prefetch struct {
	statement     *pgconn.StatementDescription // of this connection, nil before it is needed; owned by the feed
	broken        bool                         // it failed; owned by the feed
	disabledUntil time.Time                    // after a failure or a slow poll; owned by the feed
	maxPerRow     time.Duration                // rows that take longer do not come with polls
	usage         float64                      // moving average of the fraction of polled rows that Load was asked for; owned by the feed

	mu    sync.Mutex
	found found // the batch that is delivered, where its rows came in full, else memory for the next; guarded by mu
	used  int   // rows of that batch that recordUse has counted; guarded by mu
}

// fullRow is what the view feed has for an entry.
type fullRow struct {
	here bool // else Load must look
	data []byte
	err  error
}

// reset begins anew on another connection.
func (p *prefetch) reset() {
	p.statement, p.broken, p.usage = nil, false, 0
	p.mu.Lock()
	defer p.mu.Unlock()
	p.found, p.used = found{}, 0
}

// enabled reports whether the next poll should bring its rows in full.
func (p *prefetch) enabled() bool {
	return p.usage >= prefetchShare && !time.Now().Before(p.disabledUntil)
}

// prepared is the statement of a poll that does.
func (p *prefetch) prepared(ctx context.Context, conn *pgconn.PgConn, server *server) (*pgconn.StatementDescription, error) {
	if p.broken { // the view may have been made anew
		if err := conn.Deallocate(ctx, prefetchName); err != nil {
			return nil, err
		}
		p.statement, p.broken = nil, false
	}
	if p.statement == nil {
		var err error
		if p.statement, err = conn.Prepare(ctx, prefetchName, server.spell(fullPollSQL(server)), nil); err != nil {
			return nil, err
		}
	}
	return p.statement, nil
}

// pollTook disables the prefetch where the rows of a poll came slowly.
func (p *prefetch) pollTook(d time.Duration, rows int) {
	if d > prefetchGrace+time.Duration(rows)*p.maxPerRow {
		p.disabledUntil = time.Now().Add(prefetchPause)
	}
}

// failed disables the prefetch for a while, and returns an error that is not only its own.
func (p *prefetch) failed(err error) error {
	p.disabledUntil = time.Now().Add(prefetchPause)
	if pg := (*pgconn.PgError)(nil); errors.As(err, &pg) {
		p.broken = p.statement != nil
		return nil
	}
	return err
}

// reuseBuffers returns the memory of the last batch's rows for the next: that
// batch has been delivered, or its rows come again.
func (p *prefetch) reuseBuffers() found {
	p.mu.Lock()
	defer p.mu.Unlock()
	last := p.found
	p.found = found{}
	if cap(last.memory) > prefetchMemory {
		return found{}
	}
	return found{rows: last.rows[:0], memory: last.memory[:0]}
}

// keep has Load find rows while their batch is delivered.
func (p *prefetch) keep(found found) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.found = found
}

// find returns the notifications of the entries, in order of the log, that are
// here, and the indices of those that are not.
func (p *prefetch) find(entries []Entry) (out []Notification, missing []int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	out = make([]Notification, len(entries))
	all, k := p.found.rows, 0
	for i, e := range entries {
		out[i].Entry = e
		for k < len(all) && p.found.entries[k].place() != e.place() {
			k++
		}
		switch {
		case k == len(all) || !all[k].here:
			missing = append(missing, i)
		default:
			out[i].Data, out[i].Err = all[k].data, all[k].err
		}
	}
	return out, missing
}

// recordUse counts rows of the current batch that Load was asked for. Rows that
// are slow or large are left out: they should not come with a poll.
func (p *prefetch) recordUse(rows []Notification, took time.Duration) {
	size := 0
	for _, n := range rows {
		size += len(n.Data)
	}
	if took > time.Duration(len(rows))*p.maxPerRow || size > len(rows)*prefetchSize {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.used += len(rows)
}

// batchDelivered updates usage after a batch of so many rows, and frees them.
func (p *prefetch) batchDelivered(rows int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if rows > 0 {
		p.usage += (min(1, float64(p.used)/float64(rows)) - p.usage) / 4
	}
	p.found.entries, p.found.rows, p.used = nil, p.found.rows[:0], 0
}
