package store_test

import (
	"os"
	"slices"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/seed-64e334f9/notification-gateway/store/schema"
)

// released reads a statement of the release that knew nothing of changes.
func released(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile("schema/testdata/released/" + name + ".sql")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// A released gateway takes each row that its statements bring for a notification.
// Beside a new gateway its users would see a notification anew each time that it
// is marked as read, or one that is not due.
func TestReleasedStatementsBringNotificationsAlone(t *testing.T) {
	t.Parallel()
	c := setup(t)
	c.attachAgain(schema.AttachOptions{OnUpdate: []string{"is_read"}, OnDelete: true})
	c.sql("%s", `BEGIN; DELETE FROM notification_gateway.log; DELETE FROM notification_gateway.change; COMMIT;
		INSERT INTO notifications (id, user_id, notification_type, title, message) SELECT i, 5, 'x', 't' || i, 'm' FROM generate_series(1, 4) i;
		UPDATE notifications SET is_read = true; DELETE FROM notifications WHERE id = 1;
		INSERT INTO notification_gateway.due VALUES ('99', '5', now() + interval '1 hour')`)
	c.sql("BEGIN; INSERT INTO notifications (id, user_id, notification_type, title, message) VALUES (5, 5, 'x', 't5', 'm'); UPDATE notifications SET is_read = false; COMMIT")
	c.sql("TRUNCATE notifications; SELECT notification_gateway.record('5', '6'), notification_gateway.record('5', '6', 'updated')")
	var changes int
	if err := c.conn.QueryRow(t.Context(), "SELECT count(*) FROM notification_gateway.change").Scan(&changes); err != nil || changes < 10 {
		t.Fatalf("%d changes are written, %v", changes, err)
	}
	const itemOfPoll, itemOfReplay = 5, 3 // the column item_id
	none := []string{}
	for name, asked := range map[string]struct {
		item      int
		arguments []any
	}{
		"poll":                 {itemOfPoll, []any{"1", none, "0", int64(0), 100}},
		"poll_in_a_new_life":   {itemOfPoll, []any{"1", none, "0", int64(0), 100, "2000-01-01T00:00:00Z", "1"}},
		"poll_with_rows":       {itemOfPoll, []any{"1", none, "0", int64(0), 100}},
		"replay":               {itemOfReplay, []any{"5", "1", none, "0", int64(0), 100, "0", int64(0)}},
		"replay_in_a_new_life": {itemOfReplay, []any{"5", "9223372036854775807", none, "0", int64(0), 100, "0", int64(0), "2000-01-01T00:00:00Z"}},
	} {
		rows, err := c.conn.Query(t.Context(), released(t, name), append([]any{pgx.QueryExecModeDescribeExec}, asked.arguments...)...)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		var items []string
		for rows.Next() {
			if item := string(rows.RawValues()[asked.item]); item != "" {
				items = append(items, item)
			}
		}
		if err := rows.Err(); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		slices.Sort(items)
		if want := []string{"1", "2", "3", "4", "5", "6"}; !slices.Equal(items, want) {
			t.Errorf("%s brings %q, want %q", name, items, want)
		}
	}
}
