package schema

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/seed-64e334f9/notification-gateway/store/internal/pg"
)

// Draft is a first mapping for a table of the CRM's.
type Draft struct {
	Table    string   // as SQL names it
	Mapping  string   // SQL text that migrate takes as it stands
	IDColumn string   // of attach
	User     string   // of attach: the column that names the recipient
	Read     string   // the column that says whether it was read; empty: none does
	Others   []string // tables that may be meant as well, the likeliest first
}

// FirstMapping drafts the mapping of a table, named as SQL names it; empty: of the
// one that looks most like notifications, by the names and types of its columns. It
// reads the catalog alone.
func FirstMapping(ctx context.Context, url, table string) (Draft, error) {
	conn, err := pg.Connect(ctx, url)
	if err != nil {
		return Draft{}, err
	}
	defer conn.Close(ctx)
	if table != "" {
		var oid uint32
		err := conn.Begin(ctx, func(tx pgx.Tx) (err error) {
			oid, _, err = findTable(ctx, tx, conn.OwnPath, table)
			return err
		})
		if err != nil {
			return Draft{}, err
		}
		c, err := readCandidate(ctx, conn, oid)
		if err != nil {
			return Draft{}, err
		}
		if missing := c.missing(); missing != "" {
			return Draft{}, fmt.Errorf("%s has no column that looks like %s: write the mapping by hand, see sql/README.md", c.name, missing)
		}
		return c.draft(), nil
	}
	all, err := candidates(ctx, conn)
	if err != nil {
		return Draft{}, err
	}
	if len(all) == 0 {
		return Draft{}, errors.New("no table has a recipient and a text: name the one that holds the notifications, gateway init TABLE")
	}
	d := all[0].draft()
	for _, other := range all[1:min(len(all), 6)] {
		d.Others = append(d.Others, other.name)
	}
	return d, nil
}

// candidate is a table that may hold notifications.
type candidate struct {
	name, schema               string // quoted, name with its schema
	bare                       string // as the catalog has it
	columns                    []column
	id, user, kind, text, made column // without a name: there is none
	read                       column
	refers                     string // the table that user is a foreign key of; empty: none
}

// missing says what the gateway needs and the table does not seem to have.
func (c candidate) missing() string {
	switch {
	case c.id.name == "":
		return "a key (an integer, a UUID or a text)"
	case c.user.name == "":
		return "a recipient, such as user_id or recipient_id"
	}
	return ""
}

// score says how much a table looks like notifications.
func (c candidate) score() int {
	score := 0
	for pattern, worth := range map[string]int{`notif`: 10, `alert|inbox|todo|reminder`: 4, `message|event|announcement`: 2, `setting|preference|template|subscription|delivery|log$`: -8} {
		if regexp.MustCompile(pattern).MatchString(strings.ToLower(c.bare)) {
			score += worth
		}
	}
	for _, found := range []column{c.kind, c.text, c.made, c.read} {
		if found.name != "" {
			score += 2
		}
	}
	return score
}

// candidates returns the tables that have a recipient and a text, the likeliest first.
func candidates(ctx context.Context, conn asker) ([]candidate, error) {
	tables, err := relations(ctx, conn, `SELECT c.oid, c.oid::regclass::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND n.nspname NOT IN ('notification_gateway', 'information_schema') AND n.nspname !~ '^pg_' ORDER BY 2 LIMIT 2000`)
	if err != nil {
		return nil, err
	}
	var all []candidate
	for _, t := range tables {
		c, err := readCandidate(ctx, conn, t.oid)
		if err != nil {
			return nil, err
		}
		if c.missing() == "" && c.text.name+c.kind.name != "" && c.score() > 0 {
			all = append(all, c)
		}
	}
	slices.SortStableFunc(all, func(a, b candidate) int { return cmp.Compare(b.score(), a.score()) })
	return all, nil
}

// readCandidate guesses what the columns of a table are.
func readCandidate(ctx context.Context, conn asker, oid uint32) (c candidate, err error) {
	var key string // the column that alone is the primary key
	if err := conn.QueryRow(ctx, `SELECT format('%I.%I', n.nspname, c.relname), format('%I', n.nspname), c.relname::text,
			coalesce((SELECT min(a.attname::text) FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
				WHERE i.indrelid = c.oid AND i.indisprimary AND i.indnkeyatts = 1), '')
		FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = $1::oid`, oid).Scan(&c.name, &c.schema, &c.bare, &key); err != nil {
		return c, fmt.Errorf("look at a table: %w", err)
	}
	if c.columns, err = columnsOf(ctx, conn, oid); err != nil {
		return c, err
	}
	isKey := func(o column) bool { return o.family() != "" && o.base != "citext" && o.base != "name" && !o.virtual }
	c.id = c.first(isKey, "^"+regexp.QuoteMeta(plain(key))+"$", "^id$", "^(notification|uu)?id$")
	notID := func(o column) bool { return isKey(o) && o.name != c.id.name }
	c.user = c.first(notID, "^(user|recipient|receiver|notifiable|employee|account|member)(id|key)$", "^(user|recipient|receiver|to|for|target)(user|employee|account)?(id|key)?$",
		"^(res)?(partner|person|staff|agent|owner|assignee|assignedto|target|customer|login)(id|key)?$", "(user|recipient|receiver|employee|account|partner)(id|key)$")
	if strings.HasSuffix(plain(c.user.name), "by") || strings.HasSuffix(plain(c.user.name), "byid") {
		c.user = column{}
	}
	c.kind = c.first(func(o column) bool { return o.family() == "text" || o.family() == "integer" && o.name != c.user.name }, "^notificationtype$", "^(type|kind|category|verb|eventtype|event)$", "^(action|sender|name)$")
	text := func(o column) bool {
		return (o.family() == "text" || o.base == "json" || o.base == "jsonb") && o.name != c.id.name && o.name != c.user.name && o.name != c.kind.name
	}
	c.text = c.first(text, "^(message|title|body|text|subject|content|description|headline|summary)$", "^(data|payload|params|metadata)$", "(message|title|text|type)$")
	moment := func(o column) bool { return o.base == "timestamptz" || o.base == "timestamp" || o.base == "date" }
	c.made = c.first(moment, "^(createdat|created|createdon|datecreated|insertedat)$", "^(date|timestamp|time|sentat|occurredat|at)$")
	c.read = c.first(func(o column) bool { return o.base == "bool" }, "^(isread|read|seen|isseen|viewed|opened|readian|unread|isunread)$")
	if c.read.name == "" {
		c.read = c.first(moment, "^(readat|readon|readdate|seenat|viewedat|openedat)$")
	}
	if c.user.name != "" {
		if err := conn.QueryRow(ctx, `SELECT coalesce((SELECT min(f.confrelid::regclass::text) FROM pg_constraint f
			WHERE f.contype = 'f' AND f.conrelid = $1::oid AND f.conkey = ARRAY[$2::int2]), '')`, oid, c.user.number).Scan(&c.refers); err != nil {
			return c, fmt.Errorf("look for the recipients' table: %w", err)
		}
	}
	return c, nil
}

// plain is a name without what naming styles differ in: UserId is user_id.
func plain(name string) string { return strings.ToLower(strings.ReplaceAll(name, "_", "")) }

// first returns the first column that is of a kind and whose name fits the earliest of
// the patterns.
func (c candidate) first(is func(column) bool, patterns ...string) column {
	for _, pattern := range patterns {
		name := regexp.MustCompile(pattern)
		for _, o := range c.columns {
			if is(o) && o.name != "" && name.MatchString(plain(o.name)) {
				return o
			}
		}
	}
	return column{}
}

// shownColumns is how many columns data has at the most: a function of SQL takes 100
// arguments.
const shownColumns = 45

// draft writes the mapping. The two keys are plain columns, so that their indexes
// serve; all others are looked up by name, so that the CRM may change them.
func (c candidate) draft() Draft {
	quoted := func(o column) string { return pgx.Identifier{o.name}.Sanitize() }
	byName := func(o column) string { return "j->" + quoteLiteral(o.name) }
	asText := func(o column) string { return "j->>" + quoteLiteral(o.name) }
	kind := "'notification'::text"
	if c.kind.name != "" {
		kind = byName(c.kind)
	}
	keys := []string{
		"'id', n." + quoted(c.id), "'user', n." + quoted(c.user), "'notification_type', " + kind,
	}
	for _, o := range c.columns {
		taken := o.name == c.id.name || o.name == c.user.name || slices.Contains([]string{"id", "user", "notification_type"}, o.name) || o.name == c.kind.name
		if taken || len(keys) == shownColumns {
			continue
		}
		value := byName(o)
		if o.base == "timestamptz" {
			value = "notification_gateway.rfc3339(" + value + ")"
		}
		keys = append(keys, quoteLiteral(o.name)+", "+value)
	}
	made, read := "NULL::timestamptz", "false"
	if c.made.name != "" {
		made = "(" + asText(c.made) + ")::timestamptz"
	}
	switch {
	case strings.HasSuffix(plain(c.read.name), "unread"):
		read = "NOT coalesce((" + asText(c.read) + ")::boolean, true)"
	case c.read.base == "bool":
		read = "coalesce((" + asText(c.read) + ")::boolean, false)"
	case c.read.name != "":
		read = "(" + asText(c.read) + ") IS NOT NULL"
	}
	var b strings.Builder
	say := func(format string, args ...any) { fmt.Fprintf(&b, format, args...) }
	say("-- A first mapping for %s, drafted by gateway init from the names and types of its\n-- columns. Read it, and mend what was guessed wrong. It replaces the views that are there.\n--\n", c.name)
	say("-- Every name has its schema: the gateway runs under search_path = %s.\n\n", pg.PinnedPath)
	say("GRANT USAGE ON SCHEMA %s TO notification_gateway_owner;\nGRANT SELECT ON %s TO notification_gateway_owner;\nSET LOCAL ROLE notification_gateway_owner;\nDROP VIEW IF EXISTS notification_gateway.feed, notification_gateway.identity;\n\n", c.schema, c.name)
	say("-- id and user_key are plain columns, so that the indexes on them serve. The others are\n-- looked up by name when a row is read (j), so that the CRM's migrations may drop, rename\n-- and retype them. Take out of data what browsers should not get.\n")
	say("CREATE VIEW notification_gateway.feed AS\nSELECT n.%s AS id,\n  n.%s AS user_key, -- whom it is for\n  json_build_object(\n    %s) AS data,\n", quoted(c.id), quoted(c.user), strings.Join(keys, ",\n    "))
	say("  %s AS created_at,%s\n  %s AS is_read%s\n", made, noted(c.made.name == "", "no column says when it was made: replay=unread has no order"), read, noted(c.read.name == "", "no column says so: every row is unread"))
	say("FROM %s n CROSS JOIN LATERAL (SELECT to_jsonb(n) AS j OFFSET 0) j;\n-- A soft delete belongs here: WHERE NOT coalesce((j->>'deleted')::boolean, false)\n\n", c.name)
	say("-- Whom a token names. Without this view the claim GATEWAY_JWT_USER_CLAIM is %s itself.\n", quoted(c.user))
	if c.refers != "" {
		say("-- %s refers to %s: where tokens name another table's IDs, say here which is whose.\n", quoted(c.user), c.refers)
	}
	say("-- Active users only, and one row for each subject.\n--\n-- CREATE VIEW notification_gateway.identity AS\n-- SELECT u.id AS subject, u.id AS user_key FROM public.users u WHERE u.is_active;\n\nRESET ROLE;\n")
	return Draft{Table: c.name, Mapping: b.String(), IDColumn: c.id.name, User: c.user.name, Read: c.read.name}
}

func noted(holds bool, text string) string {
	if holds {
		return " -- " + text
	}
	return ""
}
