package store

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

const (
	loadDeadline    = 10 * time.Second
	maxNotification = 4 << 20 // bytes of JSON; past it the recipient gets a reset instead
)

// Load brings the full rows of entries, same length and order, in one round
// trip. Its error means that Postgres could not be asked, or that the view
// feed cannot be read at all, and the caller tries again later; a row that
// alone cannot be read has its own Err.
func (s *Store) Load(ctx context.Context, entries []Entry) ([]Notification, error) {
	server := s.server.Load()
	if server == nil {
		return nil, ErrNotReady
	}
	if len(entries) == 0 {
		return nil, nil
	}
	found, err := s.loadRows(ctx, server, entries)
	if err != nil && isRowError(err) {
		return s.loadHalves(ctx, entries, err)
	}
	if err != nil {
		return nil, fmt.Errorf("load %d notifications: %w", len(entries), err)
	}
	out := make([]Notification, len(entries))
	for i, e := range entries {
		out[i] = Notification{Entry: e}
		row, ok := found[e.ItemID]
		if !ok || row.userKey != e.UserKey { // deleted, or somebody else's by now
			continue
		}
		out[i].Type, out[i].Data, out[i].Err = row.kind, row.data, row.err
	}
	return out, nil
}

// loadHalves finds the rows that make a batch fail by halving it.
func (s *Store) loadHalves(ctx context.Context, entries []Entry, cause error) ([]Notification, error) {
	if len(entries) == 1 {
		// One bad row, or a view that nobody can read? The second must wait to
		// be mended, or every recipient would be told to reload for nothing.
		if _, err := s.exec(ctx, "SELECT id, user_key, data FROM notification_gateway.feed LIMIT 0"); err != nil {
			return nil, fmt.Errorf("read the view feed: %w", err)
		}
		return []Notification{{Entry: entries[0], Err: cause}}, nil
	}
	half := len(entries) / 2
	left, err := s.Load(ctx, entries[:half])
	if err != nil {
		return nil, err
	}
	right, err := s.Load(ctx, entries[half:])
	if err != nil {
		return nil, err
	}
	return append(left, right...), nil
}

type feedRow struct {
	userKey string
	kind    string
	data    []byte
	err     error
}

func (s *Store) loadRows(ctx context.Context, server *server, entries []Entry) (map[string]feedRow, error) {
	ids := make([]string, len(entries))
	for i, e := range entries {
		ids[i] = e.ItemID
	}
	ctx, cancel := context.WithTimeout(ctx, loadDeadline)
	defer cancel()
	// The parameter is cast, never the column: an index on the column serves.
	rows, err := s.query(ctx, "SELECT id::text, user_key::text, data::text FROM notification_gateway.feed WHERE id = ANY ($1::text[]::"+server.idType+"[])", ids)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	found := make(map[string]feedRow, len(entries))
	for rows.Next() {
		var id string
		var userKey, data *string
		if err := rows.Scan(&id, &userKey, &data); err != nil {
			return nil, err
		}
		if userKey == nil {
			continue
		}
		row := feedRow{userKey: *userKey}
		row.kind, row.data, row.err = parseData(data)
		found[id] = row
	}
	return found, rows.Err()
}

// parseData turns what the view gave into one line of JSON.
func parseData(text *string) (kind string, data []byte, err error) {
	switch {
	case text == nil:
		return "", nil, errors.New("data is null")
	case len(*text) > maxNotification:
		return "", nil, fmt.Errorf("data has %d bytes, more than %d", len(*text), maxNotification)
	}
	raw := []byte(*text)
	var known struct {
		Type any `json:"notification_type"`
	}
	if err := json.Unmarshal(raw, &known); err != nil {
		return "", nil, fmt.Errorf("data is no JSON object: %s", strings.SplitN(err.Error(), ":", 2)[0])
	}
	var line bytes.Buffer
	line.Grow(len(raw))
	if err := json.Compact(&line, raw); err != nil {
		return "", nil, errors.New("data is no JSON")
	}
	kind, _ = known.Type.(string)
	return kind, line.Bytes(), nil
}

// isRowError reports whether a statement failed because of what it read, not
// because of the server, the connection or the deadline: SQLSTATE classes 21
// (cardinality), 22 (data), 42 (names and types), P0 (raised by PL/pgSQL) and
// 54 (limits), see https://www.postgresql.org/docs/current/errcodes-appendix.html.
func isRowError(err error) bool {
	var pg *pgconn.PgError
	if !errors.As(err, &pg) || len(pg.Code) != 5 {
		return false
	}
	switch pg.Code[:2] {
	case "21", "22", "42", "54", "P0":
		return true
	}
	return false
}
