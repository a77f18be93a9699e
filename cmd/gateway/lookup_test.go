package main

import (
	"bytes"
	"net/http"
	"strings"
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

// Without the view every client gets 503, while the doctor and readiness saw
// nothing amiss; the token's finding sent the operator to lines that were fine.
func TestLookupWithoutTheView(t *testing.T) {
	url := storetest.CRM(t)
	environment(t, url)
	db := open(t, url)
	t.Setenv("GATEWAY_RECIPIENT", "lookup")
	check := func(want int, text string) {
		t.Helper()
		var out, stderr bytes.Buffer
		if status := run(t.Context(), []string{"check", "--token", mint(t, "1")}, &out, &stderr); status != want || !strings.Contains(out.String(), text) {
			t.Errorf("check: status %d, want %q:\n%s", status, text, &out)
		}
	}
	const drop = "DROP VIEW IF EXISTS notification_gateway.identity;"
	for create, says := range map[string]string{
		"": "recipients are looked up, and the view identity is missing",
		"CREATE VIEW notification_gateway.identity AS SELECT 1 AS subject":                   "must have the columns subject and user_key",
		"CREATE VIEW notification_gateway.identity AS SELECT 1 AS subject, true AS user_key": "identity.user_key is boolean, but feed.user_key is bigint",
	} {
		if err := db.Exec(t.Context(), drop+create); err != nil {
			t.Fatal(err)
		}
		check(1, "✘ identity")
		check(1, says)
	}
	if err := db.Exec(t.Context(), drop); err != nil {
		t.Fatal(err)
	}
	g := serveInTest(t)
	for body := ""; !strings.Contains(body, "write the view identity"); { // before its first look it says that it has not looked
		body = g.readyz(t, 503)
	}
	if err := db.Exec(t.Context(), "CREATE VIEW notification_gateway.identity AS SELECT 1 AS subject, 5 AS user_key"); err != nil {
		t.Fatal(err)
	}
	g.readyz(t, 200)
	check(0, "the recipient is 5")
	until(t, g.stream(t, mint(t, "1"), ""), `"user":5`)
}
