package schema

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/seed-64e334f9/notification-gateway/store/internal/view"
)

// maxSafe is the largest integer that JavaScript's numbers hold exactly: past it
// two IDs meet in a browser, and the second is taken for a duplicate
// (https://262.ecma-international.org/#sec-number.max_safe_integer).
const maxSafe = 1<<53 - 1

// sample loads whole rows, because a view may be there and fail for each: the
// newest captured ones, one of each type, or any row where none was captured.
func (d doctor) sample(ctx context.Context) (string, error) {
	feed, err := viewColumns(ctx, d.conn, "feed")
	if err != nil {
		return "", err
	}
	id, ok := named(feed, "id")
	if !ok {
		return "", errors.New("the view feed is missing, or has no column id")
	}
	newest, err := d.newest(ctx)
	if err != nil {
		return "", err
	}
	rows, err := d.load(ctx, "WHERE f.id = ANY ($1::text[]::"+id.cast()+"[])", newest.items)
	if err != nil {
		return "", err
	}
	captured := len(rows)
	if captured == 0 {
		if rows, err = d.load(ctx, "LIMIT 1"); err != nil {
			return "", err
		}
	}
	gone := false // each of them has been removed or changed since
	if len(rows) == 0 && len(newest.items) > 0 {
		gone = d.changedSince(ctx, newest)
	}
	switch {
	case gone:
		return fmt.Sprintf("no notification to try: what was captured, %d of the newest, was removed or changed since", len(newest.items)), nil
	case len(rows) == 0 && len(newest.items) > 0:
		return "", &advisedError{what: fmt.Sprintf("the feed shows no row at all, and the log has %d that were captured", len(newest.items)), mend: "see whether the rows are still in the table, whether row-level security hides them, and what the mapping selects"}
	case len(rows) == 0:
		return "no notification yet to try", nil
	case captured == 0:
		return "a row loads", cmp.Or(unsafeID(rows), otherID(rows))
	}
	return describe(rows), cmp.Or(unsafeID(rows), otherID(rows), ceased(rows, newest.items))
}

// changedSince reports whether a change was captured of each of the newest rows.
// Where the table change is missing, none was.
func (d doctor) changedSince(ctx context.Context, newest captured) bool {
	users := make([]string, len(newest.rows))
	for i, row := range newest.rows {
		users[i] = row.user
	}
	var unchanged int
	err := d.conn.QueryRow(ctx, `SELECT count(*) FROM unnest($1::text[], $2::text[]) AS n (user_key, item_id)
		WHERE NOT EXISTS (SELECT FROM notification_gateway.change c WHERE c.user_key = n.user_key AND c.item_id = n.item_id)`, users, newest.items).Scan(&unchanged)
	return err == nil && unchanged == 0
}

// sampleRow is a row of the view feed.
type sampleRow struct {
	item string // the view's ID
	data map[string]any
}

// otherID warns where the data names another ID than the view: what is told as
// removed has the view's, and a client that knows the row by the other keeps it.
func otherID(rows []sampleRow) error {
	for _, row := range rows {
		if id, there := row.data["id"]; there && id != nil && fmt.Sprint(id) != row.item {
			return &advisedError{
				ok: true, what: fmt.Sprintf("a row loads; its data.id is %v and the view's id is %s, so that clients do not find the row that a removed event names", id, row.item),
				mend: "write the same ID into data as the view selects: json_build_object('id', id, …)",
			}
		}
	}
	return nil
}

// ceasedRows is how many of the newest rows of a type must lack a key before it is
// missed.
const ceasedRows = 10

// ceased warns of keys that are null in the newest rows and were not before: the
// CRM writes another column now. items are those of the log, the newest first.
func ceased(rows []sampleRow, items []string) error {
	place := map[string]int{}
	for i, item := range items {
		if _, seen := place[item]; !seen {
			place[item] = i
		}
	}
	slices.SortFunc(rows, func(a, b sampleRow) int { return cmp.Compare(place[a.item], place[b.item]) })
	byType := map[string][]sampleRow{} // a key that one type lacks another may have
	for _, row := range rows {
		kind := fmt.Sprint(row.data["notification_type"])
		byType[kind] = append(byType[kind], row)
	}
	var missing []string
	for _, rows := range byType {
		if len(rows) < 2*ceasedRows {
			continue
		}
		had, have := map[string]bool{}, map[string]bool{}
		for i, row := range rows {
			in := had
			if i < ceasedRows {
				in = have
			}
			for key, value := range row.data {
				in[key] = in[key] || value != nil
			}
		}
		for key := range had {
			if had[key] && !have[key] && !slices.Contains(missing, key) {
				missing = append(missing, key)
			}
		}
	}
	if len(missing) == 0 {
		return nil
	}
	slices.Sort(missing)
	return &advisedError{
		ok: true, what: fmt.Sprintf("the newest rows load; null in the newest %d of a type, and not in those before: %s", ceasedRows, strings.Join(missing, ", ")),
		mend: "see whether the CRM writes another column by now, and name that one in the mapping",
	}
}

// load reads rows of the view in full. which is what follows FROM.
func (d doctor) load(ctx context.Context, which string, args ...any) ([]sampleRow, error) {
	rows, err := d.conn.Query(ctx, "SELECT "+view.DataColumns+", f.id::text, f.* FROM notification_gateway.feed f "+which, args...)
	if err != nil {
		return nil, fmt.Errorf("load a row of the view feed: %w", err)
	}
	defer rows.Close()
	var out []sampleRow
	for rows.Next() {
		raw := rows.RawValues()
		line, err := view.AppendCompact(nil, raw[0], view.IsTrue(raw[1]))
		if err != nil {
			return nil, fmt.Errorf("load a row of the view feed: %w", err)
		}
		decoder := json.NewDecoder(strings.NewReader(string(line)))
		decoder.UseNumber()
		row := sampleRow{item: string(raw[2])}
		if decoder.Decode(&row.data) == nil { // else it is nested deeper than Go reads, and is sent all the same
			out = append(out, row)
		}
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("load a row of the view feed: %w", err)
	}
	return out, nil
}

// describe says which types the newest rows have, and which keys of a type are
// null in all of its rows: a column that the CRM has renamed is.
func describe(rows []sampleRow) string {
	nulls := map[string]map[string]bool{} // by type, the keys that were null so far
	for _, row := range rows {
		kind, _ := row.data["notification_type"].(string)
		known, seen := nulls[kind]
		if !seen {
			known = map[string]bool{}
			for key, value := range row.data {
				known[key] = value == nil
			}
			nulls[kind] = known
		}
		for key, value := range row.data {
			known[key] = known[key] && value == nil
		}
	}
	everywhere := map[string]bool{}
	for _, keys := range nulls {
		for key := range keys {
			everywhere[key] = true
		}
	}
	for _, keys := range nulls {
		for key, null := range keys {
			everywhere[key] = everywhere[key] && null
		}
	}
	maps.DeleteFunc(everywhere, func(_ string, null bool) bool { return !null })
	text := fmt.Sprintf("the newest %d captured rows load; notification_type: %s", len(rows), strings.Join(slices.Sorted(maps.Keys(nulls)), ", "))
	if len(everywhere) > 0 {
		text += "; null in all of them: " + strings.Join(slices.Sorted(maps.Keys(everywhere)), ", ")
	}
	return text
}

// unsafeID warns of numbers that a browser cannot tell apart.
func unsafeID(rows []sampleRow) error {
	for _, row := range rows {
		for _, key := range []string{"id", "user"} {
			number, _ := row.data[key].(json.Number)
			if n, err := strconv.ParseInt(number.String(), 10, 64); err == nil && (n > maxSafe || n < -maxSafe) {
				return &advisedError{
					ok: true, what: fmt.Sprintf("a row loads; its data.%s is %d, more than a browser's numbers hold (2^53), so that two IDs may look the same there", key, n),
					mend: fmt.Sprintf("select it as text in the mapping: json_build_object('%s', %[1]s::text, …)", key),
				}
			}
		}
	}
	return nil
}
