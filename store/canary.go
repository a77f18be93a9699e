package store

import (
	"bytes"
	"strings"
)

// CanaryPrefix begins the recipient of a canary: a notification of
// gateway check --canary, which is nobody's. No user's stream stands under such a
// key, and only begin_canary() captures rows for one.
const CanaryPrefix = "notification_gateway_canary:"

// CanaryType is a canary's notification_type.
const CanaryType = "canary"

func (e Entry) isCanary() bool {
	return strings.HasPrefix(e.UserKey, CanaryPrefix) && e.Change == "" && e.Disconnect == ""
}

// canaryData is what a canary brings. No table has its row.
func (s *server) canaryData(itemID string) []byte {
	return append(bytes.TrimSuffix(s.removedData(itemID), []byte("}")), `,"notification_type":"`+CanaryType+`"}`...)
}
