package gateway

import (
	"slices"
	"time"

	"github.com/seed-64e334f9/notification-gateway/store"
)

// overtaken knows what a replay has sent of each row. A page may bring that a row
// was removed after a page that brought it back, because pages are in order of
// transaction IDs, and a transaction may change a row long after it got its ID. What
// came later in time holds, see batchRows.foldChanges, which is for one batch.
type overtaken map[toldItem]time.Time

// toldItem is a row that was removed from a key; without a key, one that was shown
// under any.
type toldItem struct{ key, id string }

// maxTold bounds its memory: past it the order of the pages holds.
const maxTold = 20_000

// has reports whether something later was sent that contradicts n. A row that goes
// from one key of a client to another is removed from the first one, and the client
// has it still.
func (o overtaken) has(n store.Notification) bool {
	contrary := toldItem{n.UserKey, n.ItemID}
	if n.Change == store.ChangeRemoved {
		contrary.key = ""
	}
	at, known := o[contrary]
	return known && n.InsertedAt.Before(at)
}

// add notes that n was sent to a client that wants changes.
func (o *overtaken) add(n store.Notification, changes bool) {
	if !changes || n.ItemID == "" || len(*o) >= maxTold {
		return
	}
	if *o == nil {
		*o = overtaken{}
	}
	it := toldItem{n.UserKey, n.ItemID}
	if n.Change != store.ChangeRemoved {
		it.key = ""
	}
	if n.InsertedAt.After((*o)[it]) {
		(*o)[it] = n.InsertedAt
	}
}

// shownLater reports whether a later row of the batch shows a removed item to a
// stream under another of its keys.
func (b *batchRows) shownLater(s *stream, removed *store.Notification) bool {
	for _, i := range b.shown[removed.ItemID] {
		n := &b.rows[i]
		if n.UserKey != removed.UserKey && n.InsertedAt.After(removed.InsertedAt) && s.standsUnder(n.UserKey) {
			return true
		}
	}
	return false
}

func (s *stream) standsUnder(key string) bool {
	return key == s.recipient.UserKey || key == everybodyKey || slices.Contains(s.groups, key)
}
