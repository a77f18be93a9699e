package main

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/seed-64e334f9/notification-gateway/store/storetest"
)

// A replay of many pages must come whole: with many transactions in a page and
// with many pages in a transaction, from the log (what this replica has in
// memory began later), and to a client whose connection breaks at any row,
// which is brought no row twice.
func TestReplayOfManyPages(t *testing.T) {
	url := storetest.CRM(t)
	environment(t, url)
	t.Setenv("GATEWAY_REPLAY_LIMIT", "3")
	db := open(t, url)
	before := serveInTest(t)
	before.readyz(t, 200)
	token := mint(t, "5")
	lastID := until(t, before.stream(t, token, ""), "Connected")
	before.stop()
	want := map[string]bool{}
	insert := func(rows int) { // in one transaction
		if err := db.Exec(t.Context(), `INSERT INTO notifications (user_id, notification_type, title, message)
			SELECT u, 'x', 'row ' || i, 'm' FROM generate_series($1::int, $2) i, unnest(ARRAY[5, 7]) u`, len(want), len(want)+rows-1); err != nil {
			t.Fatal(err)
		}
		for range rows {
			want[fmt.Sprint("row ", len(want))] = true
		}
	}
	for len(want) < 1000 {
		switch len(want) {
		case 300, 800:
			insert(100) // larger than thirty pages
		default:
			insert(1)
		}
	}
	g := serveInTest(t)
	g.readyz(t, 200)
	random := rand.New(rand.NewPCG(1, 1))
	connections, repeated := 0, 0
	for got := map[string]bool{}; len(got) < len(want); connections++ {
		ctx, cancel := context.WithCancel(t.Context())
		lines := g.streamUntil(ctx, t, token, lastID)
		for n := random.IntN(250); n > 0 && len(got) < len(want) && lines.Scan(); {
			if id, found := strings.CutPrefix(lines.Text(), "id: "); found {
				if lastID = id; !readEvent(t, lines, want, got, &repeated) {
					t.Fatal("the stream ended")
				}
				n--
			}
		}
		cancel()
	}
	t.Logf("%d rows over %d connections", len(want), connections)
	if repeated > 0 {
		t.Errorf("%d rows came again", repeated)
	}
	if n := g.metric(t, `replay_pages_total{source="log"}`); n < 300 || g.metric(t, `replay_pages_total{source="memory"}`) > 0 {
		t.Errorf("%v pages came from the log", n)
	}
}

// readEvent reads an event after its id.
func readEvent(t *testing.T, lines *bufio.Scanner, want, got map[string]bool, repeated *int) bool {
	for lines.Scan() {
		if lines.Text() == "" {
			return true
		}
		if strings.Contains(lines.Text(), `"reason"`) || strings.Contains(lines.Text(), `"code"`) {
			t.Fatal(lines.Text())
		}
		if title, found := titleOf(lines.Text()); found {
			if !want[title] {
				t.Errorf("%q came", title)
			}
			if got[title] {
				*repeated++
			}
			got[title] = true
		}
	}
	return false
}
