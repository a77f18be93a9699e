package losscheck

import "github.com/seed-64e334f9/notification-gateway/store/workload"

// unreadList is what a page shows as unread: the IDs of rows of this run. Once it
// is known what the table holds in the end, it counts how many IDs are wrong.
type unreadList struct {
	ids  map[int64]struct{}
	want map[int64]struct{} // nil until expect
	// wrong is how many IDs are in one of ids and want alone; 0 until expect.
	wrong int
}

// set adds an ID to the list or takes it out.
func (l *unreadList) set(id int64, unread bool) {
	_, listed := l.ids[id]
	if listed == unread {
		return
	}
	if l.ids == nil {
		l.ids = map[int64]struct{}{}
	}
	if unread {
		l.ids[id] = struct{}{}
	} else {
		delete(l.ids, id)
	}
	if l.want == nil {
		return
	}
	if _, wanted := l.want[id]; wanted == unread {
		l.wrong--
	} else {
		l.wrong++
	}
}

// replace takes another list, as a page that reloads does.
func (l *unreadList) replace(ids map[int64]struct{}) {
	l.ids = ids
	if l.want != nil {
		l.expect(l.want)
	}
}

// expect says what the list should be.
func (l *unreadList) expect(want map[int64]struct{}) {
	l.want = want
	l.wrong = len(l.differences())
}

// differences are the IDs that are shown and not unread, or unread and not shown.
func (l *unreadList) differences() (ids []int64) {
	for id := range l.ids {
		if _, wanted := l.want[id]; !wanted {
			ids = append(ids, id)
		}
	}
	for id := range l.want {
		if _, listed := l.ids[id]; !listed {
			ids = append(ids, id)
		}
	}
	return ids
}

// unreadOf returns the IDs of a user's unread rows.
func unreadOf(rows []workload.Row, user int64) map[int64]struct{} {
	ids := map[int64]struct{}{}
	for _, r := range rows {
		if r.User == user && r.Unread {
			ids[r.ID] = struct{}{}
		}
	}
	return ids
}
