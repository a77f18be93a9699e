package schema

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/seed-64e334f9/notification-gateway/store/internal/pg"
)

const comparedRows = 100 // captured rows that are looked up in the feed

// columns holds what is captured against what the feed has: first the types,
// then the newest rows. It reads nothing but the catalog, the log and the feed.
func (d doctor) columns(ctx context.Context) (string, error) {
	feed, err := viewColumns(ctx, d.conn, "feed")
	if err != nil {
		return "", err
	}
	all, err := captures(ctx, d.conn)
	if err != nil {
		return "", err
	}
	id, ok := named(feed, "id")
	if !ok || len(all) == 0 {
		return "nothing to compare yet", nil
	}
	var sides []string
	for _, c := range all {
		if err := c.readable(); err != nil {
			return "", err
		}
		if err := c.fits(feed); err != nil {
			return "", err
		}
		sides = append(sides, fmt.Sprintf("%s and %s of %s", joinedNames(c.users), c.id.name, c.table))
	}
	found, err := d.compare(ctx, id)
	return strings.Join(sides, ", ") + "; " + found, err
}

// compare looks the newest captured rows up in the feed. The CRM may have
// deleted some since, or given them to somebody else: the most of them count.
func (d doctor) compare(ctx context.Context, id column) (string, error) {
	newest, err := d.newest(ctx)
	switch {
	case err != nil:
		return "", err
	case newest.nameless > 0:
		return "", fmt.Errorf("%d of the newest captured rows have no ID: that is in another column", newest.nameless)
	case len(newest.rows) == 0:
		return "nothing was captured yet", nil
	}
	found, err := d.recipients(ctx, id, newest.items)
	if err != nil {
		return "", err
	}
	if len(found) == 0 {
		return d.unknown(ctx, id, newest)
	}
	if err := twiceForOne(found); err != nil {
		return "", err
	}
	there, others, example := 0, 0, ""
	for _, row := range newest.rows {
		users := found[row.item]
		if len(users) == 0 {
			continue
		}
		if there++; !slices.Contains(users, row.user) { // several users may have the same item
			others++
			example = fmt.Sprintf("item %s was captured for %q, the feed has it for %q", row.item, row.user, users[0])
		}
	}
	if others > there/2 {
		return "", fmt.Errorf("%s: so with %d of the newest %d", example, others, len(newest.rows))
	}
	return fmt.Sprintf("the feed has %d of the newest %d captured rows, %d of them for another user by now", there, len(newest.rows), others), nil
}

// twiceForOne finds two rows that have one ID and one recipient: the gateway sends
// one of them. Only rows show it, because a partitioned table or a view cannot prove
// that its IDs are unique.
func twiceForOne(found map[string][]string) error {
	for item, users := range found {
		slices.Sort(users)
		for i, user := range users {
			if i > 0 && user != "" && users[i-1] == user {
				return &advisedError{what: fmt.Sprintf("the feed has item %s for %q twice: the two are one notification to the gateway, and one of the rows is lost", item, user), mend: "select an ID that no other row of the view has; two tables need --prefix, see sql/README.md"}
			}
		}
	}
	return nil
}

// unknown says why the feed may have none of the captured rows. It is no fault
// that the CRM deleted them, if the feed does not show that they are there.
func (d doctor) unknown(ctx context.Context, id column, newest captured) (string, error) {
	var users []string
	for _, row := range newest.rows {
		users = append(users, row.user)
	}
	swapped, err := d.recipients(ctx, id, users)
	if err != nil && !pg.IsDataError(err) {
		return "", err
	}
	for _, row := range newest.rows {
		if slices.Contains(swapped[row.user], row.item) {
			return "", fmt.Errorf("item %s was captured for %q, the feed has item %[2]s for %[1]q: the columns are swapped", row.item, row.user)
		}
	}
	missed, err := d.between(ctx, newest.from, newest.to)
	if err != nil {
		return "", err
	}
	if missed != "" {
		return "", fmt.Errorf("the feed has none of the newest %d captured rows, but item %s of the same time, which was not captured", len(newest.rows), missed)
	}
	return fmt.Sprintf("the feed has none of the newest %d captured rows: they were deleted, or it selects other columns", len(newest.rows)), nil
}

// recipients returns the user keys that the feed has for items.
func (d doctor) recipients(ctx context.Context, id column, items []string) (map[string][]string, error) {
	rows, err := d.conn.Query(ctx, "SELECT id::text, coalesce(user_key::text, '') FROM notification_gateway.feed WHERE id = ANY ($1::text[]::"+id.cast()+"[])", items)
	if err != nil {
		return nil, fmt.Errorf("look the captured rows up: %w", err)
	}
	found := map[string][]string{}
	var item, user string
	if _, err := pgx.ForEachRow(rows, []any{&item, &user}, func() error { found[item] = append(found[item], user); return nil }); err != nil {
		return nil, fmt.Errorf("look the captured rows up: %w", err)
	}
	return found, nil
}

// captured is a part of the log.
type captured struct {
	rows     []struct{ item, user string } // newest first
	items    []string                      // of the rows
	nameless int                           // rows whose item has no ID
	from, to time.Time
}

// newest reads the newest log rows. Those from before the trigger as it is now
// say nothing about it: its own row in the catalog tells since when it is.
func (d doctor) newest(ctx context.Context) (captured, error) {
	rows, err := d.conn.Query(ctx, `SELECT user_key, item_id, inserted_at FROM (SELECT * FROM notification_gateway.log
			WHERE disconnect IS NULL ORDER BY xid DESC, position DESC LIMIT $2) l
		WHERE age(xid::xid) < (SELECT min(CASE WHEN age(xmin) > 0 THEN age(xmin) ELSE 2147483647 END) FROM pg_trigger
			WHERE tgname = $1 AND NOT tgisinternal AND tgparentid = 0)`, triggerName, comparedRows)
	if err != nil {
		return captured{}, fmt.Errorf("read the log: %w", err)
	}
	var c captured
	var user, item string
	var at time.Time
	_, err = pgx.ForEachRow(rows, []any{&user, &item, &at}, func() error {
		if item == "" {
			c.nameless++
			return nil
		}
		if len(c.items) == 0 {
			c.from, c.to = at, at
		}
		if at.Before(c.from) {
			c.from = at
		}
		if at.After(c.to) {
			c.to = at
		}
		c.items, c.rows = append(c.items, item), append(c.rows, struct{ item, user string }{item, user})
		return nil
	})
	if err != nil {
		return captured{}, fmt.Errorf("read the log: %w", err)
	}
	return c, nil
}

// between returns a notification that the feed says was made between two
// times; none when there is none, or when the view takes too long to say.
func (d doctor) between(ctx context.Context, from, to time.Time) (string, error) {
	var item string
	err := d.conn.QueryRow(ctx, "SELECT id::text FROM notification_gateway.feed WHERE created_at BETWEEN $1 AND $2 LIMIT 1", from, to).Scan(&item)
	if errors.Is(err, pgx.ErrNoRows) || errors.Is(err, context.DeadlineExceeded) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("look for a row that was not captured: %w", err)
	}
	return item, nil
}
