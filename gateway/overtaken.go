package gateway

import (
	"time"

	"github.com/seed-64e334f9/notification-gateway/store"
)

// overtaken knows what a replay has sent of each row. A page may bring that a row
// was removed after a page that brought it back, because pages are in order of
// transaction IDs, and a transaction may change a row long after it got its ID. What
// came later in time holds, see batchRows.foldChanges, which is for one batch.
type overtaken map[toldItem]toldChange

type toldItem struct{ key, id string }

type toldChange struct {
	at      time.Time
	removed bool
}

// maxTold bounds its memory: past it the order of the pages holds.
const maxTold = 20_000

// has reports whether something later was sent that contradicts n.
func (o overtaken) has(n store.Notification) bool {
	was, known := o[toldItem{n.UserKey, n.ItemID}]
	return known && was.removed != (n.Change == store.ChangeRemoved) && n.InsertedAt.Before(was.at)
}

// add notes that n was sent to a client that wants changes.
func (o *overtaken) add(n store.Notification, changes bool) {
	if !changes || n.ItemID == "" || len(*o) >= maxTold {
		return
	}
	if *o == nil {
		*o = overtaken{}
	}
	(*o)[toldItem{n.UserKey, n.ItemID}] = toldChange{n.InsertedAt, n.Change == store.ChangeRemoved}
}
