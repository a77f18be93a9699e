package main

import (
	"context"
	"testing"

	"github.com/seed-64e334f9/notification-gateway/store/storetest"
	"github.com/seed-64e334f9/notification-gateway/store/throwaway"
)

// While the CRM alters one of its tables, rows that need it cannot be read. All
// others had to wait for them, as long as the lock was held.
func TestLockedTableHoldsUpItsReadersAlone(t *testing.T) {
	url := storetest.CRM(t)
	environment(t, url)
	db := open(t, url)
	g := serveInTest(t)
	g.readyz(t, 200)
	held, free := g.stream(t, mint(t, "5"), ""), g.stream(t, mint(t, "7"), "")
	until(t, held, "Connected")
	until(t, free, "Connected")
	crm, err := throwaway.Listen(t.Context(), url, "crm")
	if err != nil {
		t.Fatal(err)
	}
	defer crm.Close(context.Background())
	if err := crm.Exec(t.Context(), "BEGIN; LOCK TABLE tasks IN ACCESS EXCLUSIVE MODE"); err != nil {
		t.Fatal(err)
	}
	if err := db.Exec(t.Context(), `INSERT INTO notifications (user_id, notification_type, title, message)
		VALUES (5, 'task_assignment', 'held', ''), (7, 'x', 'free', ''), (5, 'task_assignment', 'held too', '')`); err != nil {
		t.Fatal(err)
	}
	until(t, free, "free")
	if err := db.Exec(t.Context(), "INSERT INTO notifications (user_id, notification_type, title, message) VALUES (7, 'x', 'at once', '')"); err != nil {
		t.Fatal(err)
	}
	until(t, free, "at once")
	if err := crm.Exec(t.Context(), "COMMIT"); err != nil {
		t.Fatal(err)
	}
	until(t, held, `"held"`)
	until(t, held, "held too")
}
