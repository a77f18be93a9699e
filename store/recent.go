package store

import (
	"iter"
	"slices"
	"sync"
)

// recentRows bounds what is kept for replays from memory: some minutes of a
// busy CRM, and about 4 MB.
const recentRows = 32_768

// recent keeps the latest batches, so that a herd of clients that come back
// together is served without asking Postgres for the log once for each. It
// answers only where it can prove that it has everything.
type recent struct {
	limit int // rows

	mu      sync.Mutex
	start   Cursor         // everything committed after it, up to the last batch, is here; zero while nothing is; guarded by mu
	batches []recentBatch  // oldest first; guarded by mu
	rows    []recentRow    // a ring: row n is at n modulo limit; guarded by mu
	first   int            // number of the oldest row; guarded by mu
	next    int            // number of the row that comes next; guarded by mu
	users   map[string]int // number of the newest row, by user key; guarded by mu
}

type recentBatch struct {
	after     Cursor
	next      int // number of the row after it
	delivered bool
}

type recentRow struct {
	Entry
	before int // number of the same user's row before it, which may have been dropped; -1 for none
}

func newRecent(limit int) *recent {
	return &recent{limit: limit, users: map[string]int{}}
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
	case r.start.IsZero() || !r.start.sameLife(batch.Cursor) || len(batch.Entries) > r.limit:
		r.forget(batch.Cursor)
		return
	case len(batch.Entries) == 0:
		return
	}
	for r.next-r.first+len(batch.Entries) > r.limit {
		r.drop()
	}
	for _, e := range batch.Entries {
		r.push(e)
	}
	r.batches = append(r.batches, recentBatch{after: batch.Cursor, next: r.next})
}

// push needs mu, and room for a row.
func (r *recent) push(e Entry) {
	row := recentRow{e, -1}
	if before, ok := r.users[e.UserKey]; ok {
		row.before = before
	}
	if i := r.next % r.limit; i < len(r.rows) {
		r.rows[i] = row
	} else {
		r.rows = append(r.rows, row)
	}
	r.users[e.UserKey] = r.next
	r.next++
}

// drop forgets the oldest batch. It needs mu.
func (r *recent) drop() {
	for ; r.first < r.batches[0].next; r.first++ {
		if key := r.rows[r.first%r.limit].UserKey; r.users[key] == r.first {
			delete(r.users, key)
		}
	}
	r.start, r.batches = r.batches[0].after, r.batches[1:]
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
	r.batches = r.batches[:n-1]
	end := r.first
	if n > 1 {
		end = r.batches[n-2].next
	}
	for ; r.next > end; r.next-- {
		row := r.rows[(r.next-1)%r.limit]
		if row.before < r.first {
			delete(r.users, row.UserKey)
		} else {
			r.users[row.UserKey] = row.before
		}
	}
}

// of goes through a user's rows, the newest first. It needs mu.
func (r *recent) of(userKey string) iter.Seq[Entry] {
	return func(yield func(Entry) bool) {
		n, ok := r.users[userKey]
		for ok && n >= r.first {
			row := r.rows[n%r.limit]
			if !yield(row.Entry) {
				return
			}
			n = row.before
		}
	}
}

// has reports whether a row was delivered already, whatever its transaction
// was called: item ID and time of insert survive a crash that hands
// transaction IDs out again.
func (r *recent) has(e Entry) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.retract()
	for o := range r.of(e.UserKey) {
		if o.ItemID == e.ItemID && o.InsertedAt.Equal(e.InsertedAt) && o.Disconnect == e.Disconnect && o.Change == e.Change {
			return true
		}
	}
	return false
}

// forget begins anew at start. It needs mu.
func (r *recent) forget(start Cursor) {
	r.start, r.batches, r.rows, r.first, r.next, r.users = start, nil, nil, 0, 0, map[string]int{}
}

// replay returns what replaySQL would: the reader's rows that the position from
// does not see, after a place, in order of transaction ID and position, at most
// limit. It reports false when Postgres must be asked.
func (r *recent) replay(reader Reader, from Cursor, after Place, limit int) ([]Entry, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.start.IsZero() || !r.start.sameLife(from) || !from.snapshot.includes(r.start.snapshot) {
		return nil, false
	}
	var out []Entry
	for _, key := range reader.Keys {
		for e := range r.of(key) {
			if e.Disconnect == "" && (e.Change == "" || reader.Changes) && !from.sees(e) &&
				(e.XID > after.xid || e.XID == after.xid && e.Position > after.position) {
				out = append(out, e)
			}
		}
	}
	slices.SortFunc(out, inLog)
	return out[:min(limit, len(out))], true
}
