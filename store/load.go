package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

const (
	loadDeadline = 10 * time.Second // for one page
	loadPage     = 500              // rows in one round trip at the most
	loadFirst    = 50               // rows in the first, while nobody knows how large they are; most batches are smaller
	loadBytes    = 32 << 20         // of full rows in memory for one batch or one page of a replay, and a page of load more
)

// ErrLarge is returned for entries whose full rows are too large to be in
// memory at once. The feed brings fewer when Deliver returns it.
var ErrLarge = errors.New("the rows are too large to be loaded at once")

// Load brings the full rows of entries, same length and order, in one round
// trip for a page: a view that is slow makes a large batch late, but does not
// let it fail again and again. Its error is ErrLarge, or means that Postgres
// could not be asked, or that the view feed cannot be read at all, and the caller
// tries again later; a row that alone cannot be read, or not in time, has its own
// Err.
func (s *Store) Load(ctx context.Context, entries []Entry) ([]Notification, error) {
	began := time.Now()
	out, missing := s.prefetch.find(entries)
	if len(missing) > 0 {
		rest := make([]Entry, len(missing))
		for k, i := range missing {
			rest[k] = entries[i]
		}
		loaded, err := s.load(ctx, rest)
		if err != nil {
			return nil, err
		}
		if len(loaded) < len(rest) {
			return nil, ErrLarge
		}
		for k, i := range missing {
			out[i] = loaded[k]
		}
	}
	s.prefetch.loaded(out, time.Since(began))
	return out, nil
}

// load asks Postgres. It brings at least one row, and ends early when it has
// loadBytes.
func (s *Store) load(ctx context.Context, entries []Entry) ([]Notification, error) {
	server := s.server.Load()
	if server == nil {
		return nil, ErrNotReady
	}
	var out []Notification
	for bytes, size := 0, loadFirst; len(out) < len(entries) && bytes < loadBytes; {
		page := entries[len(out):min(len(out)+size, len(entries))]
		rows, err := s.loadRows(ctx, server, page)
		if err != nil && ctx.Err() == nil && (isRowError(err) || errors.Is(err, context.DeadlineExceeded)) {
			rows, err = s.loadHalves(ctx, page, err)
		}
		if err != nil {
			return nil, fmt.Errorf("load %d notifications: %w", len(page), err)
		}
		out = append(out, rows...)
		for _, n := range rows {
			bytes += len(n.Data)
		}
		size = min(loadPage, 1+loadBytes/4/(1+bytes/len(out)))
	}
	return out, nil
}

// loadHalves finds the rows that make a batch fail by halving it, and gives
// the halves of one that is late a deadline each.
func (s *Store) loadHalves(ctx context.Context, entries []Entry, cause error) ([]Notification, error) {
	if len(entries) == 1 {
		// One bad row, or a view that nobody can read? The second must wait to
		// be mended, or every recipient would be told to reload for nothing.
		ctx, cancel := context.WithTimeout(ctx, s.deadline)
		defer cancel()
		if _, err := s.exec(ctx, "SELECT id, user_key, data FROM notification_gateway.feed LIMIT 0"); err != nil {
			return nil, fmt.Errorf("read the view feed: %w", err)
		}
		return []Notification{{Entry: entries[0], Err: cause}}, nil
	}
	half := len(entries) / 2
	left, err := s.load(ctx, entries[:half])
	if err != nil || len(left) < half {
		return left, err
	}
	right, err := s.load(ctx, entries[half:])
	if err != nil {
		return nil, err
	}
	return append(left, right...), nil
}

// dataColumns give the data as text, and whether Postgres has checked it.
const dataColumns = "data::text, pg_typeof(data) IN ('json'::regtype, 'jsonb'::regtype)"

func (s *Store) loadRows(ctx context.Context, server *server, entries []Entry) ([]Notification, error) {
	out := make([]Notification, len(entries))
	ids := make([]string, len(entries))
	places := make(map[string][]int, len(entries)) // by item ID; rows come in any order
	one := make([]int, len(entries))
	for i, e := range entries {
		out[i].Entry, ids[i], one[i] = e, e.ItemID, i
		if _, again := places[e.ItemID]; again {
			places[e.ItemID] = append(places[e.ItemID], i)
		} else {
			places[e.ItemID] = one[i : i+1 : i+1]
		}
	}
	ctx, cancel := context.WithTimeout(ctx, s.deadline)
	defer cancel()
	// The parameter is cast, never the column: an index on the column serves.
	rows, err := s.query(ctx, "SELECT id::text, user_key::text, "+dataColumns+" FROM notification_gateway.feed WHERE id = ANY ($1::text[]::"+server.idType+"[])", ids)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		raw := rows.RawValues() // text; good until Next
		if raw[1] == nil {
			continue
		}
		data, err := line(raw[2], isTrue(raw[3]))
		for _, i := range places[string(raw[0])] {
			if out[i].UserKey == string(raw[1]) { // else it is somebody else's by now
				out[i].Data, out[i].Err = data, err
			}
		}
	}
	return out, rows.Err()
}

// isTrue reads a boolean in the text or the binary format.
func isTrue(raw []byte) bool { return len(raw) == 1 && (raw[0] == 't' || raw[0] == 1) }

// isRowError reports whether a statement failed because of what it read, not
// because of the server, the connection, the session or a lock. A view may
// raise any SQLSTATE, so these are the classes that are not a row's:
// https://www.postgresql.org/docs/current/errcodes-appendix.html.
func isRowError(err error) bool {
	var pg *pgconn.PgError
	if !errors.As(err, &pg) || len(pg.Code) != 5 {
		return false
	}
	switch pg.Code[:2] {
	case "08", "25", "26", "28", "3D", "40", "53", "55", "57", "58":
		return false
	}
	return pg.Code != "0A000" // a prepared plan whose result has changed is made anew
}
