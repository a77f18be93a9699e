package main

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/seed-64e334f9/notification-gateway/store/storetest"
	"github.com/seed-64e334f9/notification-gateway/store/throwaway"
)

// insertLarge inserts rows for one user in one transaction: "row 0" and so on.
func insertLarge(t *testing.T, db *throwaway.DB, rows int) {
	t.Helper()
	if err := db.Exec(t.Context(), `INSERT INTO notifications (user_id, notification_type, title, message)
		SELECT 5, 'x', 'row ' || i, repeat('m', 1000) FROM generate_series(0, $1::int - 1) i`, rows); err != nil {
		t.Fatal(err)
	}
}

// cutOff reads a stream from lastID until enough, which is asked after each row
// with its number, and breaks off. Rows must come from row next on. It returns
// the last event ID and the next row.
func (i *instance) cutOff(t *testing.T, token, lastID string, next int, opened func(), enough func(row int, id string) bool) (string, int) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	lines := i.streamUntil(ctx, t, token, lastID)
	until(t, lines, "Connected")
	opened()
	for lines.Scan() {
		if id, found := strings.CutPrefix(lines.Text(), "id: "); found {
			lastID = id
		}
		title, found := titleOf(lines.Text())
		if !found {
			continue
		}
		if title != fmt.Sprint("row ", next) {
			t.Fatalf("got %q, want row %d", title, next)
		}
		if next++; enough(next-1, lastID) {
			return lastID, next
		}
	}
	t.Fatalf("the stream ended before row %d", next)
	return "", 0
}

// A slow client whose connection breaks every few seconds must get ahead inside
// a transaction too, or it reads the start of a large one for ever. It comes
// back to this replica or to another, which answers from the log.
func TestClientIsCutOffInsideATransaction(t *testing.T) {
	url := storetest.CRM(t)
	environment(t, url)
	t.Setenv("GATEWAY_REPLAY_LIMIT", "150")
	db := open(t, url)
	one := serveInTest(t)
	one.readyz(t, 200)
	token := mint(t, "5")
	lines := one.stream(t, token, "")
	lastID := until(t, lines, "Connected")
	const rows = 3000
	insertLarge(t, db, rows)
	until(t, lines, fmt.Sprintf(`"title":"row %d"`, rows-1)) // this replica has it in memory
	other := serveInTest(t)
	other.readyz(t, 200)
	for n, connections := 0, 0; n < rows; connections++ {
		g := []*instance{one, other}[connections%2]
		begun := n
		lastID, n = g.cutOff(t, token, lastID, n, func() {}, func(row int, _ string) bool { return row == begun+201 || row == rows-1 })
	}
	if one.metric(t, `replay_pages_total{source="memory"}`) == 0 || other.metric(t, `replay_pages_total{source="log"}`) == 0 {
		t.Error("it was not read from memory and from the log")
	}
}

// A transaction that is larger than the buffer comes to an open stream from the
// log. Its rows must say there how far the client has come, or a connection that
// breaks then starts it over.
func TestClientIsCutOffInABurst(t *testing.T) {
	url := storetest.CRM(t)
	environment(t, url)
	t.Setenv("GATEWAY_STREAM_BUFFER", "16384")
	db := open(t, url)
	g := serveInTest(t)
	g.readyz(t, 200)
	token := mint(t, "5")
	start := until(t, g.stream(t, token, ""), "Connected")
	const rows = 11_000 // more than one poll brings
	moved := 0          // rows with a position of their own
	lastID, n := g.cutOff(t, token, start, 0, func() { insertLarge(t, db, rows) }, func(row int, id string) bool {
		if id != start {
			moved++
		}
		return moved == 100 || row == rows-1
	})
	if n > rows/2 {
		t.Errorf("the first %d rows said nothing of how far the client had come", n-moved)
	}
	for n < rows {
		begun := n
		lastID, n = g.cutOff(t, token, lastID, n, func() {}, func(row int, _ string) bool { return row == begun+2001 || row == rows-1 })
	}
	if g.metric(t, "bursts_total") == 0 {
		t.Error("no batch was larger than the buffer")
	}
}
