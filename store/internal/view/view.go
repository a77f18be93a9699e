// Package view holds what the gateway and the doctor must read alike from the
// mapping's views, feed and identity.
package view

// DataColumns select the notification as text, and whether Postgres has
// checked that it is JSON.
const (
	DataColumns   = "data::text, " + CheckedColumn
	CheckedColumn = "pg_typeof(data) IN ('json'::regtype, 'jsonb'::regtype)"
)

// OtherRecipientSQL finds a subject to whom the view identity gives another
// recipient than the subject itself.
const OtherRecipientSQL = "SELECT subject::text, user_key::text FROM notification_gateway.identity WHERE subject::text <> user_key::text LIMIT 1"

// KeyTypeSQL is an expression for the SQL name of the type of a key, a column of
// one of the views; null where there is none. A domain counts as the type that it
// is made of: tokens and the log are compared with what that holds. The name of
// char(n) is bpchar: a cast to character keeps the first character alone.
func KeyTypeSQL(name, column string) string {
	return `(WITH RECURSIVE unwrapped (oid) AS (
    SELECT a.atttypid FROM pg_attribute a WHERE a.attrelid = to_regclass('notification_gateway.` + name + `') AND a.attname = '` + column + `'
    UNION ALL SELECT t.typbasetype FROM unwrapped u JOIN pg_type t ON t.oid = u.oid AND t.typtype = 'd')
  SELECT CASE WHEN t.oid = 'bpchar'::regtype THEN 'bpchar' ELSE format_type(t.oid, NULL) END FROM unwrapped u JOIN pg_type t ON t.oid = u.oid WHERE t.typtype <> 'd')`
}

// IsTrue reads a boolean in the text or the binary format.
func IsTrue(raw []byte) bool { return len(raw) == 1 && (raw[0] == 't' || raw[0] == 1) }
