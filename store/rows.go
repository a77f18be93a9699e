package store

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/seed-64e334f9/notification-gateway/store/internal/view"
)

// rowsSQL brings rows of the view feed: those with an ID of $1 that are one of the
// pairs of an ID and a user in ($2, $3). Several users may hold rows of the same
// ID, so the ID alone would bring the rows of all of them.
//
// The IDs are cast, never the column, so that an index on it serves. The pairs are
// compared as text, because that is what the log and the tokens hold: types such
// as citext call more texts equal.
//
// Postgres puts a view's expressions wherever a statement names its columns, and
// computes each as often. OFFSET 0 keeps it from that, so that data is computed
// once for each row.
const rowsSQL = `SELECT id::text, user_key::text, data::text, pg_typeof(data) IN ('json'::regtype, 'jsonb'::regtype)
FROM (SELECT id, user_key, data FROM notification_gateway.feed
  WHERE id = ANY ($1::text[]::ID_TYPE[])
    AND (id::text COLLATE "C", user_key::text COLLATE "C") IN (SELECT w.id, w.user_key FROM unnest($2::text[], $3::text[]) w (id, user_key))
  OFFSET 0) f`

// usersRowsSQL is rowsSQL with the users in $4 as well, so that an index on both
// serves: of an ID that 2,000 users hold it reads one row, where rowsSQL reads all
// of them. It is not always the better one. A plan that was made while the table
// was nearly empty may read all rows of the users instead, and is kept for as
// long as the connection.
const usersRowsSQL = `SELECT id::text, user_key::text, data::text, pg_typeof(data) IN ('json'::regtype, 'jsonb'::regtype)
FROM (SELECT id, user_key, data FROM notification_gateway.feed
  WHERE id = ANY ($1::text[]::ID_TYPE[]) AND user_key = ANY ($4::text[]::KEY_TYPE[])
    AND (id::text COLLATE "C", user_key::text COLLATE "C") IN (SELECT w.id, w.user_key FROM unnest($2::text[], $3::text[]) w (id, user_key))
  OFFSET 0) f`

// errNoItemID is the Err of a log row without an ID, or with one that has no
// UTF-8 form: nobody can say which row of the view it is.
var errNoItemID = errors.New("the log row has no ID that can be read")

// typed puts the types of the view's keys into a statement.
func (s *server) typed(statement string) string {
	return strings.NewReplacer("ID_TYPE", s.idType, "KEY_TYPE", s.keyType).Replace(statement)
}

// pair is what a row of the view is asked for by.
type pair struct{ id, userKey string }

// wanted collects what rowsSQL is to bring for entries: where each row goes, and
// the parameters. An entry whose user cannot be in a column of the view's type is
// in no pair: the view has no such row.
type wanted struct {
	places               map[pair][]int // indices of the entries
	ids, keys            []string       // each once
	pairIDs, pairKeys    []string
	seenIDs, seenUserKey map[string]bool
}

func want(entries []Entry, keyType string) *wanted {
	w := &wanted{places: make(map[pair][]int, len(entries)), seenIDs: make(map[string]bool, len(entries)), seenUserKey: map[string]bool{}}
	one := make([]int, len(entries)) // most pairs have one place
	for i, e := range entries {
		if e.ItemID == "" || e.Change == ChangeRemoved || e.Change == ChangeRefresh {
			continue
		}
		p := pair{e.ItemID, e.UserKey}
		if at, again := w.places[p]; again {
			w.places[p] = append(at, i)
			continue
		}
		if key, ok := canonical(e.UserKey, keyType); !ok || key != e.UserKey {
			continue
		}
		one[i] = i
		w.places[p] = one[i : i+1 : i+1]
		w.pairIDs, w.pairKeys = append(w.pairIDs, p.id), append(w.pairKeys, p.userKey)
		if !w.seenIDs[p.id] {
			w.seenIDs[p.id] = true
			w.ids = append(w.ids, p.id)
		}
		if !w.seenUserKey[p.userKey] {
			w.seenUserKey[p.userKey] = true
			w.keys = append(w.keys, p.userKey)
		}
	}
	return w
}

// loadRows brings the rows of entries by one statement: all of them, or the first
// where the bytes are more than may be in memory; perhaps none, because rows come
// in any order. Without entries it only tries whether the view can be read.
func (s *Store) loadRows(ctx context.Context, server *server, entries []Entry, how loadOptions) ([]Notification, error) {
	out := make([]Notification, len(entries))
	for i, e := range entries {
		out[i].Entry = e
		if e.ItemID == "" && e.Change != ChangeRefresh {
			out[i].Err = errNoItemID
		}
	}
	w := want(entries, server.keyType)
	if len(entries) > 0 && len(w.places) == 0 && !slices.ContainsFunc(entries, Entry.isCanary) { // a canary proves that the view can be read
		server.describe(out)
		return out, nil
	}
	ctx, cancel := context.WithTimeout(ctx, how.deadline)
	defer cancel()
	began, users := time.Now(), s.rowStatement.usesUsers()
	defer func() {
		if len(entries) > 0 {
			s.rowStatement.took(users, len(entries), time.Since(began), time.Now())
		}
	}()
	statement, args := rowsSQL, []any{w.ids, w.pairIDs, w.pairKeys}
	if users {
		statement, args = usersRowsSQL, append(args, w.keys)
	}
	rows, err := s.query(ctx, server.typed(statement), args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	bytes, fit := 0, len(out)
	for rows.Next() {
		raw := rows.RawValues() // as text; good until Next
		if raw[0] == nil || raw[1] == nil {
			continue
		}
		places := w.places[pair{string(raw[0]), string(raw[1])}]
		if len(places) == 0 {
			continue
		}
		if bytes > how.bytes {
			fit = min(fit, places[0])
			continue
		}
		data, err := view.AppendCompact(nil, raw[2], view.IsTrue(raw[3]))
		bytes += len(data)
		for _, i := range places {
			out[i].Data, out[i].Err = data, err
		}
	}
	server.describe(out[:fit])
	return out[:fit:fit], rows.Err()
}
