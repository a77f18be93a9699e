package schema

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/seed-64e334f9/notification-gateway/store/internal/view"
)

// feed looks at the columns of the view.
func (d doctor) feed(ctx context.Context) (string, error) {
	columns, err := viewColumns(ctx, d.conn, "feed")
	if err != nil {
		return "", err
	}
	if len(columns) == 0 {
		return "", errors.New("the view feed is missing")
	}
	const keys = "int2 int4 int8 uuid text varchar bpchar citext" // those that have a family
	for _, want := range []struct{ name, bases, kind string }{
		{"id", keys, "an integer, a UUID or text"},
		{"user_key", keys, "an integer, a UUID or text"},
		{"data", "json jsonb text varchar", "json, jsonb or text"},
		{"created_at", "timestamptz", "timestamp with time zone"},
		{"is_read", "bool", "boolean"},
	} {
		c, ok := named(columns, want.name)
		if !ok {
			return "", fmt.Errorf("the view feed has no column %s, but %s", want.name, names(columns))
		}
		if !slices.Contains(strings.Fields(want.bases), c.base) {
			return "", fmt.Errorf("column %s of the view feed is %s, not %s", c.name, c.sqlType, want.kind)
		}
	}
	id, _ := named(columns, "id")
	userKey, _ := named(columns, "user_key")
	return fmt.Sprintf("id %s, user_key %s", id.sqlType, userKey.sqlType), nil
}

// sample loads all columns of a row: a view may be there and fail for each.
func (d doctor) sample(ctx context.Context) (string, error) {
	rows, err := d.conn.Query(ctx, "SELECT "+view.DataColumns+", f.* FROM notification_gateway.feed f LIMIT 1")
	if err != nil {
		return "", fmt.Errorf("load a row of the view feed: %w", err)
	}
	defer rows.Close()
	seen := "no notification yet to try"
	for rows.Next() {
		raw := rows.RawValues()
		if _, err := view.AppendCompact(nil, raw[0], view.IsTrue(raw[1])); err != nil {
			return "", fmt.Errorf("load a row of the view feed: %w", err)
		}
		seen = "a row loads"
	}
	if err := rows.Err(); err != nil {
		return "", fmt.Errorf("load a row of the view feed: %w", err)
	}
	return seen, nil
}

// identity looks at the columns of the view, which must give keys that the
// feed has.
func (d doctor) identity(ctx context.Context) (string, error) {
	columns, err := viewColumns(ctx, d.conn, "identity")
	if err != nil {
		return "", err
	}
	if len(columns) == 0 && !d.lookup {
		return "not there, and not needed", nil
	}
	if len(columns) == 0 {
		return "", errors.New("recipients are looked up, and the view identity is missing")
	}
	subject, there := named(columns, "subject")
	userKey, also := named(columns, "user_key")
	if !there || !also {
		return "", fmt.Errorf("the view identity must have the columns subject and user_key, and has %s", names(columns))
	}
	feed, err := viewColumns(ctx, d.conn, "feed")
	if err != nil {
		return "", err
	}
	if to, ok := named(feed, "user_key"); ok && !userKey.mayEqual(to) {
		return "", fmt.Errorf("identity.user_key is %s, but feed.user_key is %s", userKey.sqlType, to.sqlType)
	}
	return fmt.Sprintf("subject %s, user_key %s", subject.sqlType, userKey.sqlType), nil
}
