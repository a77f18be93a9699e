package store

import (
	"sync"
	"time"
)

const (
	slowTrial = time.Minute      // between two trials of the other statement because a page was slow
	backTrial = 10 * time.Minute // between two looks whether rowsSQL would do as well
)

// rowStatement chooses between rowsSQL and usersRowsSQL by how long each takes for
// a row. It prefers rowsSQL, whose plan can go by the ID alone, and tries the other
// one when a page is slow.
type rowStatement struct {
	mu     sync.Mutex
	byUser bool                   // usersRowsSQL is the one to use; guarded by mu
	perRow map[bool]time.Duration // moving average by statement; guarded by mu
	trial  bool                   // the next page is for the other statement; guarded by mu
	tried  time.Time              // when the last trial began; guarded by mu
}

// usesUsers reports which statement the next page is for.
func (r *rowStatement) usesUsers() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.byUser != r.trial
}

// took notes how long a page of so many rows took with a statement.
func (r *rowStatement) took(byUser bool, rows int, d time.Duration, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.perRow == nil {
		r.perRow, r.tried = map[bool]time.Duration{}, now.Add(-slowTrial)
	}
	each := d / time.Duration(rows)
	switch known, ok := r.perRow[byUser]; {
	case r.trial && byUser != r.byUser:
		r.trial, r.perRow[byUser] = false, each
		users, ok := r.perRow[true]
		r.byUser = ok && 2*users < r.perRow[false]
	case !ok:
		r.perRow[byUser] = each
	default:
		r.perRow[byUser] = known + (each-known)/4
	}
	slow := d > 20*time.Millisecond+time.Duration(rows)*time.Millisecond
	if since := now.Sub(r.tried); slow && since >= slowTrial || r.byUser && since >= backTrial {
		r.trial, r.tried = true, now
	}
}
