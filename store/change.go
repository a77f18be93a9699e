package store

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"time"
)

// Change is what became of a notification after it was captured.
type Change string

const (
	// ChangeUpdated: a column that the operator watches has another value.
	ChangeUpdated Change = "updated"
	// ChangeRemoved: the row was deleted, or is no notification of this user's any
	// more.
	ChangeRemoved Change = "removed"
	// ChangeRefresh: more has changed than is told one by one. It has no item.
	ChangeRefresh Change = "refresh"
)

// refreshData is the data of a refresh.
const refreshData = `{"reason":"bulk"}`

// changeOf reads the column kind. The texts are shared, because there are many.
func changeOf(kind []byte) Change {
	switch string(kind) {
	case "":
		return ""
	case string(ChangeUpdated):
		return ChangeUpdated
	case string(ChangeRemoved):
		return ChangeRemoved
	}
	return ChangeRefresh // also what a newer gateway's trigger may write
}

// describe gives changes their data. A row that was updated and that the view does
// not show to its user any more was removed.
func (s *server) describe(rows []Notification) {
	for i := range rows {
		n := &rows[i]
		if n.Change == ChangeUpdated && n.Data == nil && n.Err == nil {
			n.Change = ChangeRemoved
		}
		if n.isCanary() && n.Data == nil && n.Err == nil {
			n.Data = s.canaryData(n.ItemID)
		}
		switch n.Change {
		case ChangeRemoved:
			if n.Err == nil {
				n.Data = s.removedData(n.ItemID)
			}
		case ChangeRefresh:
			n.Data = []byte(refreshData)
		}
	}
}

// removedData names the item as the view does: by a number where its IDs are
// integers.
func (s *server) removedData(itemID string) []byte {
	switch s.idType {
	case "smallint", "integer", "bigint":
		if n, err := strconv.ParseInt(itemID, 10, 64); err == nil {
			return fmt.Appendf(nil, `{"id":%d}`, n)
		}
	}
	id, err := json.Marshal(itemID)
	if err != nil { // a string always marshals
		panic(err)
	}
	return fmt.Appendf(nil, `{"id":%s}`, id)
}

// fold leaves of each row one entry, at the place of the first in the log. The last
// in time decides whether the row is removed, see gateway.batchRows. If it is not, the
// entry says what the client does not have yet, which is a notification if any of
// them is. Left-out entries are zero.
func fold(entries []Entry) []Entry {
	first := make(map[pair]int, len(entries))
	newest := map[int]int{} // the index of the last in time, by that of the first, where there are several
	out := entries
	for i, e := range entries {
		if e.Change == ChangeRefresh || e.ItemID == "" {
			continue
		}
		k, again := first[pair{e.ItemID, e.UserKey}]
		if !again {
			first[pair{e.ItemID, e.UserKey}] = i
			continue
		}
		if &out[0] == &entries[0] {
			out = slices.Clone(entries) // the page's end is told by all of them
		}
		n, several := newest[k]
		if !several {
			n = k
		}
		if !e.InsertedAt.Before(entries[n].InsertedAt) {
			n = i
		}
		newest[k] = n
		if out[k].Change != "" {
			out[k].Change = ChangeUpdated
			if e.Change == "" {
				out[k].Change = "" // a notification
			}
		}
		out[i] = Entry{}
	}
	for k, n := range newest {
		out[k].InsertedAt = entries[n].InsertedAt
		if entries[n].Change == ChangeRemoved {
			out[k].Change = ChangeRemoved
		}
	}
	return out
}

// parseDue reads milliseconds since 1970; empty is none.
func parseDue(text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return time.Time{}, fmt.Errorf("due time: %w", err)
	}
	return time.UnixMilli(n), nil
}
