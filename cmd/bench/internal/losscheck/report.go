package losscheck

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/seed-64e334f9/notification-gateway/store/workload"
)

const maxExamples = 10 // faults that are described one by one

// Report is what a run found. Each client of a user must receive each of the
// user's rows, so missing, phantom and foreign count receipts.
type Report struct {
	Rows       int `json:"rows"`       // of this run, in the table at the end
	Deliveries int `json:"deliveries"` // owed: the rows, each to every client of its user
	Connects   int `json:"connects"`
	Missing    int `json:"missing"`    // owed and never came
	Phantom    int `json:"phantom"`    // came, and the table has no such row
	Foreign    int `json:"foreign"`    // came to another user
	Duplicates int `json:"duplicates"` // came again with the same ID
	Resets     int `json:"resets"`
	Reloaded   int `json:"reloaded"` // came with the list that a reset made a client reload
	Erased     int `json:"erased"`   // acknowledged by COMMIT, and Postgres itself has lost it
	Changed    int `json:"changed"`  // rows that the writers marked as read or unread, or deleted
	Updated    int `json:"updated"`  // events of these three kinds that came
	Removed    int `json:"removed"`
	Refreshes  int `json:"refreshes"`
	Wrong      int `json:"wrong"` // rows that a client shows as unread in the end and the table does not, or the other way round
	Ambiguous  int `json:"ambiguous"`
	Broken     int `json:"broken_sessions"`
	Terminated int `json:"terminated_backends"`

	// From the acknowledgement of COMMIT to the client's read, with the time
	// that the client or the gateway was away.
	LagP50 float64 `json:"lag_p50_ms"`
	LagP99 float64 `json:"lag_p99_ms"`
	LagMax float64 `json:"lag_max_ms"`

	examples []string
}

// compare holds what the clients received against the CRM's table.
func compare(table []workload.Row, load witness, clients []*client) *Report {
	acknowledged := load.Acknowledged()
	r := &Report{Rows: len(table)}
	rows := make(map[int64]workload.Row, len(table))
	for _, row := range table {
		rows[row.Number] = row
	}
	for number := range acknowledged {
		if _, there := rows[number]; there {
			continue
		}
		if _, deleted := load.Explained(number); !deleted {
			r.Erased++
		}
	}
	var lags []time.Duration
	for _, c := range clients {
		lags = append(lags, r.compareClient(c, rows, acknowledged, load)...)
	}
	slices.Sort(lags)
	if n := len(lags); n > 0 {
		ms := func(i int) float64 { return float64(lags[min(i, n-1)].Microseconds()) / 1000 }
		r.LagP50, r.LagP99, r.LagMax = ms(n/2), ms(n*99/100), ms(n-1)
	}
	return r
}

// witness is what the comparison asks of the CRM's side.
type witness interface {
	Acknowledged() map[int64]time.Time
	Explained(number int64) (inserted, deleted bool)
}

// compareClient adds one client's part and returns the lags of what it received.
func (r *Report) compareClient(c *client, rows map[int64]workload.Row, acknowledged map[int64]time.Time, load witness) (lags []time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	r.Connects += c.tally.Connects
	r.Foreign += c.tally.Foreign
	r.Duplicates += c.tally.Duplicates
	r.Resets += c.tally.Resets
	r.Updated += c.tally.Updated
	r.Removed += c.tally.Removed
	r.Refreshes += c.tally.Refreshes
	r.Wrong += c.list.wrong
	if c.list.wrong > 0 {
		for _, id := range c.list.differences() {
			_, shown := c.list.ids[id]
			r.example("wrong: %s shows id %d as unread: %t, the table has the opposite", c.name, id, shown)
		}
	}
	for number, got := range c.received {
		row, there := rows[number]
		inserted, _ := load.Explained(number)
		switch {
		case got.reloaded: // from the table itself
			r.Reloaded++
			continue
		case !there && inserted: // it was there when it came; deleted since, or erased
		case !there || row.ID != got.id:
			r.Phantom++
			r.example("phantom: %s received number %d as id %d, which the table does not hold", c.name, number, got.id)
		case row.User != c.user:
			r.Foreign++
			r.example("foreign: %s received id %d of user %d", c.name, row.ID, row.User)
		}
		if at, known := acknowledged[number]; known {
			lags = append(lags, max(0, got.at.Sub(at))) // the stream may be faster than the answer to COMMIT
		}
	}
	for number, row := range rows {
		if row.User != c.user {
			continue
		}
		r.Deliveries++
		if _, known := c.received[number]; !known {
			r.Missing++
			at := "never"
			if t, known := acknowledged[number]; known {
				at = t.UTC().Format(time.RFC3339Nano)
			}
			r.example("missing: %s never received id %d (COMMIT acknowledged: %s)", c.name, row.ID, at)
		}
	}
	return lags
}

func (r *Report) example(format string, args ...any) {
	if len(r.examples) < maxExamples {
		r.examples = append(r.examples, fmt.Sprintf(format, args...))
	}
}

// Verdict is nil when nothing was lost and there were at most maxResets resets;
// a negative maxResets allows any number.
func (r *Report) Verdict(maxResets int) error {
	var faults []string
	for _, f := range []struct {
		n    int
		what string
	}{{r.Missing, "missing"}, {r.Phantom, "phantom"}, {r.Foreign, "foreign"}, {r.Wrong, "wrong"}} {
		if f.n > 0 {
			faults = append(faults, fmt.Sprintf("%d %s", f.n, f.what))
		}
	}
	if r.Changed > 0 && r.Updated+r.Removed+r.Refreshes == 0 {
		faults = append(faults, "no change came: is the table attached with --on-update is_read,… --on-delete?")
	}
	if maxResets >= 0 && r.Resets > maxResets {
		faults = append(faults, fmt.Sprintf("%d resets, allowed are %d", r.Resets, maxResets))
	}
	if r.Rows == 0 {
		faults = append(faults, "no row was written, so nothing was checked")
	}
	if len(faults) == 0 {
		return nil
	}
	return fmt.Errorf("%s", strings.Join(append(faults, r.examples...), "\n  "))
}

// Write writes the report, a line for each figure or as JSON.
func (r *Report) Write(w io.Writer, asJSON bool) error {
	if asJSON {
		return json.NewEncoder(w).Encode(r)
	}
	for _, line := range []struct {
		name  string
		value any
	}{
		{"rows", r.Rows},
		{"deliveries", r.Deliveries},
		{"connects", r.Connects},
		{"missing", r.Missing},
		{"phantom", r.Phantom},
		{"foreign", r.Foreign},
		{"duplicates", r.Duplicates},
		{"resets", r.Resets},
		{"reloaded", r.Reloaded},
		{"erased", r.Erased},
		{"rows changed", r.Changed},
		{"updated", r.Updated},
		{"removed", r.Removed},
		{"refreshes", r.Refreshes},
		{"wrong", r.Wrong},
		{"ambiguous", r.Ambiguous},
		{"broken sessions", r.Broken},
		{"terminated backends", r.Terminated},
		{"lag p50", fmt.Sprintf("%.1f ms", r.LagP50)},
		{"lag p99", fmt.Sprintf("%.1f ms", r.LagP99)},
		{"lag max", fmt.Sprintf("%.1f ms", r.LagMax)},
	} {
		if _, err := fmt.Fprintf(w, "%-20s %v\n", line.name, line.value); err != nil {
			return fmt.Errorf("write the report: %w", err)
		}
	}
	return nil
}
