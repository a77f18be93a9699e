package main

import (
	"net/http"
	"testing"

	"github.com/seed-64e334f9/notification-gateway/store/storetest"
)

// Somebody who leaves the company with a tab open must not go on reading, on
// the real way: token, view identity, stream, periodic check.
func TestInactiveRecipientLosesTheStream(t *testing.T) {
	url := storetest.CRM(t)
	environment(t, url)
	t.Setenv("GATEWAY_RECIPIENT", "lookup")
	t.Setenv("GATEWAY_RECIPIENT_CHECK", "1s")
	db := open(t, url)
	if err := db.Exec(t.Context(), "INSERT INTO auth_user (id, username) VALUES (1, 'alice@example.com'), (2, 'bob@example.com')"); err != nil {
		t.Fatal(err)
	}
	g := serveInTest(t)
	g.readyz(t, 200)
	alice, bob := g.stream(t, mint(t, "1"), ""), g.stream(t, mint(t, "2"), "")
	until(t, alice, `"user":5`)
	until(t, bob, `"user":7`)
	if err := db.Exec(t.Context(), "UPDATE employees SET is_active = false WHERE id = 5"); err != nil {
		t.Fatal(err)
	}
	until(t, alice, `"code":"revoked"`)
	for token, want := range map[string]int{mint(t, "1"): 403, mint(t, "99"): 403, mint(t, "abc"): 403} {
		resp, err := http.Get(g.public + "/api/notifications/stream/?token=" + token)
		if err != nil || resp.StatusCode != want {
			t.Errorf("%v, %v, want %d", resp, err, want)
		}
		resp.Body.Close()
	}
	if err := db.Exec(t.Context(), "INSERT INTO notifications (user_id, notification_type, title, message) VALUES (7, 'x', 'still here', 'm')"); err != nil {
		t.Fatal(err)
	}
	until(t, bob, "still here")
}
