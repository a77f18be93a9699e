package store

import (
	"encoding/json"
	"strings"
)

// Type returns the row's notification_type, empty when it has none, and false
// when that cannot be told. It reads the whole row: only streams that ask for some
// types need it.
func (n Notification) Type() (kind string, ok bool) {
	var row struct {
		Type any `json:"notification_type"`
	}
	if err := json.Unmarshal(n.Data, &row); err != nil {
		return "", false // nested too deeply for encoding/json, which Postgres and browsers may take
	}
	kind, _ = row.Type.(string)
	return strings.Clone(kind), true
}
