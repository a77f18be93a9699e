package schema

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

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
	const keys = "int2 int4 int8 uuid text varchar bpchar" // those that have a family
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
		if c.base == "citext" {
			return "", fmt.Errorf("column %s of the view feed is citext, which the database compares without case and the gateway with it: select lower(%[1]s::text) AS %[1]s, and attach a column that holds the same", c.name)
		}
		if !slices.Contains(strings.Fields(want.bases), c.base) {
			return "", fmt.Errorf("column %s of the view feed is %s, not %s", c.name, c.sqlType, want.kind)
		}
	}
	id, _ := named(columns, "id")
	userKey, _ := named(columns, "user_key")
	return fmt.Sprintf("id %s, user_key %s", id.sqlType, userKey.sqlType), d.caseCompared(ctx, "feed")
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
	if subject.base == "citext" {
		return "", errors.New("identity.subject is citext, which the database compares without case and the gateway with it: select subject::text, or lower(subject::text) where tokens hold it in lower case")
	}
	if err := d.twice(ctx); err != nil {
		return "", err
	}
	text := fmt.Sprintf("subject %s, user_key %s", subject.sqlType, userKey.sqlType)
	if d.auto {
		text += d.otherThanClaim(ctx)
	}
	return text, d.caseCompared(ctx, "identity")
}

// otherThanClaim says what looking up changes. Before GATEWAY_RECIPIENT had auto as
// its default it was claim.
func (d doctor) otherThanClaim(ctx context.Context) string {
	const why = "; recipients are looked up in it, because it is there (GATEWAY_RECIPIENT=auto)"
	var subject, key string
	if err := d.conn.QueryRow(ctx, view.OtherRecipientSQL).Scan(&subject, &key); err != nil { // no such row, or no time
		return why
	}
	return fmt.Sprintf("%s: a token for %s gets what is for %s, and with claim, the default of a first version, what is for %[2]s", why, subject, key)
}

// twice looks for a subject with two rows, whose tokens are refused. A view that
// takes too long to say is no fault.
func (d doctor) twice(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, checkDeadline/2)
	defer cancel()
	var subject string
	err := d.conn.QueryRow(ctx, "SELECT coalesce(min(i.subject::text), 'null') FROM notification_gateway.identity i GROUP BY i.subject HAVING count(*) > 1 LIMIT 1").Scan(&subject)
	if err == nil {
		return &advisedError{what: fmt.Sprintf("the view identity has several rows for the subject %s, whose tokens are refused (403)", subject), mend: "write the view so that it has one row for each subject; further keys belong into its column also"}
	}
	return nil // no such row, or no time
}

// caseCompared looks for citext columns that a view compares. A mapping is
// applied under the pinned path, where = compares them with case; their own
// operator, which does not, needs its schema.
func (d doctor) caseCompared(ctx context.Context, name string) error {
	rows, err := d.conn.Query(ctx, `SELECT DISTINCT a.attname::text, n.nspname::text, pg_get_viewdef(v.oid)
		FROM pg_class v JOIN pg_rewrite r ON r.ev_class = v.oid
		JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = r.oid AND d.refclassid = 'pg_class'::regclass AND d.refobjsubid > 0
		JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid JOIN pg_type t ON t.oid = a.atttypid JOIN pg_namespace n ON n.oid = t.typnamespace
		WHERE v.relnamespace = 'notification_gateway'::regnamespace AND v.relname = $1::name AND t.typname = 'citext'`, name)
	if err != nil {
		return fmt.Errorf("look for citext: %w", err)
	}
	var column, space, text, found, where string
	if _, err := pgx.ForEachRow(rows, []any{&column, &space, &text}, func() error {
		side := `\(([\w"]+\.)?"?` + regexp.QuoteMeta(column) + `"?\)::text`
		if regexp.MustCompile(side + ` (=|<>|~~|IN|<|>)|(=|<>) ` + side).MatchString(text) {
			found, where = column, space
		}
		return nil
	}); err != nil {
		return fmt.Errorf("look for citext: %w", err)
	}
	if found != "" {
		return &advisedError{ok: true, what: fmt.Sprintf("the view %s compares the citext column %s with case", name, found), mend: fmt.Sprintf("write OPERATOR(%s.=) in the mapping to compare it without case, or lower(%s::text)", where, found)}
	}
	return nil
}
