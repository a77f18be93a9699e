package store

import (
	"testing"
	"time"
)

// Where many users hold rows of one ID, the statement that goes by the ID alone
// reads all of them; where a plan was made for an empty table, the one that goes by
// users as well does. Neither may stay because a machine was busy for a moment.
func TestRowStatementIsTheQuickerOne(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	const rows = 50
	var r rowStatement
	// page takes a page by the statement that is due.
	page := func(byID, byUser time.Duration) {
		users := r.usesUsers()
		took := byID
		if users {
			took = byUser
		}
		r.took(users, rows, took*rows, now)
		now = now.Add(time.Second)
	}
	expect := func(when string, users bool) {
		t.Helper()
		if r.usesUsers() != users {
			t.Errorf("%s: by users is %t", when, !users)
		}
	}
	quick, slow := 20*time.Microsecond, 5*time.Millisecond
	for range 10 {
		page(quick, quick)
	}
	expect("while the ID is quick", false)
	page(slow, quick)
	expect("after a slow page, for a trial", true)
	page(quick, slow)
	expect("after the other one was slower", false)
	page(slow, quick)
	expect("again slow, a trial was a moment ago", false)
	now = now.Add(slowTrial)
	page(slow, quick)
	page(slow, quick)
	expect("after the other one was quicker", true)
	for range 10 {
		page(slow, quick)
	}
	expect("while it is", true)
	now = now.Add(backTrial)
	page(slow, quick)
	expect("for a look back", false)
	page(slow, quick)
	expect("after a look back at a slow one", true)
	now = now.Add(backTrial)
	page(quick, quick)
	page(quick, quick)
	expect("after a look back at a quick one", false)
}
