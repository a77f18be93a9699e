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

// IsTrue reads a boolean in the text or the binary format.
func IsTrue(raw []byte) bool { return len(raw) == 1 && (raw[0] == 't' || raw[0] == 1) }
