package store

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

const (
	prefetchName  = "prefetch"           // of the prepared statement
	prefetchRows  = 64                   // of each index range; of a larger batch the rest is loaded as usual
	prefetchShare = 0.5                  // of the rows found must be asked for
	prefetchQuick = 5 * time.Millisecond // for a row; a slower view shall not hold up polls
	prefetchRest  = time.Minute          // after a failure
	prefetchSize  = 64 << 10             // bytes of a row
)

// prefetchSQL reads in full what pollSQL finds, by the same parameters ($5 is
// prefetchRows), a moment later.
func prefetchSQL(idType string) string {
	return fmt.Sprintf("SELECT id, user_key, CASE WHEN octet_length(data) <= %d THEN data END, checked", prefetchSize) + `
FROM (SELECT id::text, user_key::text, data::text AS data, ` + checkedColumn + ` AS checked` + feedRows(`WHERE id = ANY (ARRAY(
  (`+prefetchColumns+`xid >= $1::text::xid8 ORDER BY xid, position LIMIT $5)
UNION ALL (`+prefetchColumns+`xid = ANY ($2::text[]::xid8[]) AND xid < $1::text::xid8 ORDER BY xid, position LIMIT $5))::`+idType+"[])") + " OFFSET 0) f"
}

const prefetchColumns = `SELECT item_id FROM notification_gateway.log WHERE NOT (xid = $3::text::xid8 AND position <= $4) AND disconnect IS NULL AND `

// prefetch brings full rows in the round trip of the poll that finds them,
// which spares every notification the second one, while most of what polls find
// is loaded anyway. Load takes from it what is there.
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

// ready reports whether the next poll should bring its rows in full, and has
// the statement prepared for it.
func (p *prefetch) ready(ctx context.Context, conn *pgconn.PgConn, idType string) (bool, error) {
	if p.share < prefetchShare || time.Now().Before(p.rest) {
		return false, nil
	}
	if p.broken { // the view may have been made anew
		if err := conn.Deallocate(ctx, prefetchName); err != nil {
			return false, err
		}
		p.statement, p.broken = nil, false
	}
	if p.statement == nil {
		var err error
		if p.statement, err = conn.Prepare(ctx, prefetchName, prefetchSQL(idType), nil); err != nil {
			return false, p.failed(err)
		}
	}
	return true, nil
}

// failed lets the prefetch rest, and returns an error that is not only its own.
func (p *prefetch) failed(err error) error {
	p.rest = time.Now().Add(prefetchRest)
	if pg := (*pgconn.PgError)(nil); errors.As(err, &pg) {
		return nil
	}
	return err
}

// send adds the statement to a poll with the parameters args.
func (p *prefetch) send(pipeline *pgconn.Pipeline, args [][]byte) {
	pipeline.SendQueryStatement(p.statement, append(args[:4:4], decimal(prefetchRows)), nil, nil)
}

// receive takes what the statement brought.
func (p *prefetch) receive(pipeline *pgconn.Pipeline) error {
	rows := map[string]fullRow{}
	result, err := nextResult(pipeline)
	if err == nil {
		for result.NextRow() {
			raw := result.Values()              // text; good until NextRow
			if raw[1] == nil || raw[2] == nil { // too large, perhaps
				continue
			}
			row := fullRow{userKey: string(raw[1])}
			row.data, row.err = line(raw[2], isTrue(raw[3]))
			rows[string(raw[0])] = row
		}
		_, err = result.Close()
	}
	if err != nil {
		p.broken = true
		return p.failed(err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rows = rows
	return nil
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
