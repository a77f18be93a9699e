package store

import (
	"slices"
	"sync"
)

// recentRows bounds what is kept for replays from memory: some minutes of a
// busy CRM, and about 5 MB.
const recentRows = 32_768

// recent keeps the latest batches, so that a herd of clients that come back
// together is served without asking Postgres for the log once for each. It
// answers only where it can prove that it has everything.
type recent struct {
	limit int // rows

	mu      sync.Mutex
	start   Cursor             // everything committed after it, up to the last batch, is here; zero while nothing is; guarded by mu
	batches []recentBatch      // oldest first; guarded by mu
	rows    int                // in batches; guarded by mu
	users   map[string][]Entry // rows by user key, oldest batch first; guarded by mu
}

type recentBatch struct {
	after     Cursor
	entries   []Entry
	delivered bool
}

func newRecent(limit int) *recent {
	return &recent{limit: limit, users: map[string][]Entry{}}
}

// add takes a batch before it is delivered: a stream that registers at the
// batch's position must find its rows here. It replaces a batch that was
// refused. A partial batch is not kept, and its cursor is no start: positions
// inside a transaction are not compared here.
func (r *recent) add(batch Batch) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.retract()
	switch {
	case batch.Partial:
		r.forget(Cursor{})
		return
	case r.start.IsZero() || !r.start.sameLife(batch.Cursor):
		r.forget(batch.Cursor)
		return
	case len(batch.Entries) == 0:
		return
	}
	r.batches = append(r.batches, recentBatch{after: batch.Cursor, entries: batch.Entries})
	r.rows += len(batch.Entries)
	for _, e := range batch.Entries {
		r.users[e.UserKey] = append(r.users[e.UserKey], e)
	}
	for r.rows > r.limit {
		oldest := r.batches[0]
		for _, e := range oldest.entries {
			if r.users[e.UserKey] = r.users[e.UserKey][1:]; len(r.users[e.UserKey]) == 0 {
				delete(r.users, e.UserKey)
			}
		}
		r.start, r.rows, r.batches = oldest.after, r.rows-len(oldest.entries), r.batches[1:]
	}
}

// delivered says that the batch added last has been taken.
func (r *recent) delivered() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if n := len(r.batches); n > 0 {
		r.batches[n-1].delivered = true
	}
}

// retract takes the last batch back if it was refused. It needs mu.
func (r *recent) retract() {
	n := len(r.batches)
	if n == 0 || r.batches[n-1].delivered {
		return
	}
	refused := r.batches[n-1].entries
	for _, e := range refused {
		r.users[e.UserKey] = r.users[e.UserKey][:len(r.users[e.UserKey])-1]
	}
	r.batches, r.rows = r.batches[:n-1], r.rows-len(refused)
}

// has reports whether a row was delivered already, whatever its transaction
// was called: item ID and time of insert survive a crash that hands
// transaction IDs out again.
func (r *recent) has(e Entry) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.retract()
	return slices.ContainsFunc(r.users[e.UserKey], func(o Entry) bool {
		return o.ItemID == e.ItemID && o.InsertedAt.Equal(e.InsertedAt) && o.Disconnect == e.Disconnect
	})
}

// forget begins anew at start. It needs mu.
func (r *recent) forget(start Cursor) {
	r.start, r.batches, r.rows, r.users = start, nil, 0, map[string][]Entry{}
}

// replay returns what replaySQL would: the user's rows that the position from
// does not see, after a place, in order of transaction ID and position, at most
// limit. It reports false when Postgres must be asked.
func (r *recent) replay(userKey string, from Cursor, after Place, limit int) ([]Entry, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.start.IsZero() || !r.start.sameLife(from) || !from.snapshot.includes(r.start.snapshot) {
		return nil, false
	}
	var out []Entry
	for _, e := range r.users[userKey] {
		if e.Disconnect == "" && !from.sees(e) &&
			(e.XID > after.xid || e.XID == after.xid && e.Position > after.position) {
			out = append(out, e)
		}
	}
	slices.SortFunc(out, inLog)
	return out[:min(limit, len(out))], true
}
