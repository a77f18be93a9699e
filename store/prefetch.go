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
	prefetchName  = "prefetch"           // of the prepared statement
	prefetchRows  = 100                  // of a poll that brings them in full; when there are more, the next reads the log alone
	prefetchShare = 0.5                  // of the rows found must be asked for
	prefetchQuick = 5 * time.Millisecond // for a row; a slower view shall not hold up polls
	prefetchRest  = time.Minute          // after a failure
	prefetchSize  = 64 << 10             // bytes of a row
)

// fullPollSQL is pollSQL with three columns more, from the view: the recipient,
// the data unless it is large, and whether Postgres has checked it. They are null
// where the view has no such row.
func fullPollSQL(idType string) string {
	return pollHead + `, '', '', false
UNION ALL SELECT l.*, f.user_key, f.data, f.checked
FROM (` + pollRows + `) l (snapshot, inserted_at, xid, position, user_key, item_id, disconnect)
LEFT JOIN LATERAL (SELECT user_key, CASE WHEN octet_length(data) <= ` + strconv.Itoa(prefetchSize) + ` THEN data END AS data, checked
  FROM (SELECT user_key::text, data::text AS data, ` + checkedColumn + " AS checked" +
		feedRows("WHERE id = (CASE WHEN l.disconnect = '' AND l.item_id <> '' THEN l.item_id END)::"+idType) + " LIMIT 1) f OFFSET 0) f ON true"
}

// prefetch brings full rows with the poll that finds them, which spares every
// notification a second round trip, while most of what polls find is loaded
// anyway. Load takes from it what is there.
//
// It can only save time: without it, and when its statement fails, everything
// is loaded as usual. It rests while the gateway has no stream, and where the
// view is slow, because it shares the deadline of the poll.
type prefetch struct {
	statement *pgconn.StatementDescription // of this connection, nil before it is needed; owned by the feed
	broken    bool                         // it failed; owned by the feed
	rest      time.Time                    // not before; owned by the feed
	share     float64                      // of the rows of late batches that Load was asked for; owned by the feed

	mu    sync.Mutex
	rows  map[string]fullRow // by item ID, while their batch is delivered; guarded by mu
	asked int                // rows of that batch that Load was asked for, and had soon; guarded by mu
}

// fullRow is what the view feed has for an item ID.
type fullRow struct {
	userKey string
	data    []byte
	err     error
}

// reset begins anew on another connection.
func (p *prefetch) reset() {
	p.statement, p.broken, p.share = nil, false, 0
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rows, p.asked = nil, 0
}

// due reports whether the next poll should bring its rows in full.
func (p *prefetch) due() bool { return p.share >= prefetchShare && !time.Now().Before(p.rest) }

// prepared is the statement of a poll that does.
func (p *prefetch) prepared(ctx context.Context, conn *pgconn.PgConn, idType string) (*pgconn.StatementDescription, error) {
	if p.broken { // the view may have been made anew
		if err := conn.Deallocate(ctx, prefetchName); err != nil {
			return nil, err
		}
		p.statement, p.broken = nil, false
	}
	if p.statement == nil {
		var err error
		if p.statement, err = conn.Prepare(ctx, prefetchName, fullPollSQL(idType), nil); err != nil {
			return nil, err
		}
	}
	return p.statement, nil
}

// failed lets the prefetch rest, and returns an error that is not only its own.
func (p *prefetch) failed(err error) error {
	p.rest = time.Now().Add(prefetchRest)
	if pg := (*pgconn.PgError)(nil); errors.As(err, &pg) {
		p.broken = p.statement != nil
		return nil
	}
	return err
}

// keep has Load find rows while their batch is delivered.
func (p *prefetch) keep(rows map[string]fullRow) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rows = rows
}

// find returns the notifications of the entries that are here, and the indices
// of those that are not.
func (p *prefetch) find(entries []Entry) (out []Notification, missing []int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	out = make([]Notification, len(entries))
	for i, e := range entries {
		out[i].Entry = e
		row, here := p.rows[e.ItemID]
		switch {
		case !here:
			missing = append(missing, i)
		case row.userKey == e.UserKey: // else it is somebody else's by now
			out[i].Data, out[i].Err = row.data, row.err
		}
	}
	return out, missing
}

// loaded notes that the batch that is delivered had rows loaded. Slow and large
// ones do not count: they had better not come with a poll.
func (p *prefetch) loaded(rows []Notification, took time.Duration) {
	size := 0
	for _, n := range rows {
		size += len(n.Data)
	}
	if took > time.Duration(len(rows))*prefetchQuick || size > len(rows)*prefetchSize {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asked += len(rows)
}

// settle ends a batch of so many rows.
func (p *prefetch) settle(rows int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if rows > 0 {
		p.share += (min(1, float64(p.asked)/float64(rows)) - p.share) / 4
	}
	p.rows, p.asked = nil, 0
}
