package schema_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
)

// written returns what the triggers have written since the last call, in its
// order: the recipient, the item and what became of it.
func (c *crm) written() []string {
	c.Helper()
	rows, err := c.conn.Query(c.Context(), `WITH l AS (DELETE FROM notification_gateway.log RETURNING xid, position, user_key, item_id, 'notification' AS kind),
		c AS (DELETE FROM notification_gateway.change RETURNING xid, position, user_key, item_id, kind)
		SELECT concat_ws(' ', kind, user_key, item_id) FROM (TABLE l UNION ALL TABLE c) w ORDER BY xid, position`)
	if err != nil {
		c.Fatal(err)
	}
	defer rows.Close()
	var all []string
	for rows.Next() {
		var line string
		if err := rows.Scan(&line); err != nil {
			c.Fatal(err)
		}
		all = append(all, line)
	}
	if err := rows.Err(); err != nil {
		c.Fatal(err)
	}
	return all
}

func (c *crm) wrote(what string, want ...string) {
	c.Helper()
	if got := c.written(); !slices.Equal(got, want) {
		c.Errorf("%s: %q is written, want %q", what, got, want)
	}
}

// noted makes a table with the triggers that arguments describe.
func (c *crm) noted(arguments string) {
	c.Helper()
	c.sql(`CREATE TABLE note (id bigint PRIMARY KEY, tenant_id text, user_id text, is_read boolean DEFAULT false, title text, code char(4) DEFAULT 'a', due timestamp);
		CREATE TRIGGER i AFTER INSERT ON note FOR EACH ROW EXECUTE FUNCTION notification_gateway.capture_row('begins', %[1]s);
		CREATE TRIGGER u AFTER UPDATE ON note FOR EACH ROW EXECUTE FUNCTION notification_gateway.capture_row('stays', %[1]s);
		CREATE TRIGGER d AFTER DELETE ON note FOR EACH ROW EXECUTE FUNCTION notification_gateway.capture_row('ceases', %[1]s);
		CREATE TRIGGER t AFTER TRUNCATE ON note EXECUTE FUNCTION notification_gateway.capture_row('truncate')`, arguments)
}

const plainRow = `'{user_id}', '{3}', 'id', '1', '', '', '{is_read}', '{4}', '', '', 'delete', 'usual'`

// What a row trigger writes for each thing that a CRM does with a row.
func TestCaptureRowWritesWhatChanges(t *testing.T) {
	t.Parallel()
	c := setup(t)
	c.noted(plainRow)
	c.sql("INSERT INTO note (id, user_id) VALUES (1, '5')")
	c.wrote("an insert", "notification 5 1")
	c.sql("UPDATE note SET is_read = true")
	c.wrote("a watched column", "updated 5 1")
	c.sql("UPDATE note SET title = 'x', is_read = true")
	c.wrote("another column, and a watched one that stays")
	c.sql("UPDATE note SET user_id = '6'")
	c.wrote("another user", "removed 5 1", "notification 6 1")
	c.sql("UPDATE note SET user_id = NULL")
	c.wrote("nobody", "removed 6 1", "notification  1")
	c.sql("UPDATE note SET user_id = '6'; ALTER TABLE note RENAME is_read TO seen; ALTER TABLE note RENAME user_id TO owner")
	c.written()
	c.sql("UPDATE note SET seen = false")
	c.wrote("renamed columns", "updated 6 1")
	c.sql("DELETE FROM note")
	c.wrote("a delete", "removed 6 1")
	c.sql("TRUNCATE note")
	c.wrote("truncate", "refresh * ")
}

// More changes of a user in one transaction than a client wants one by one are
// one refresh, whoever else is changed between them, and a savepoint that is
// rolled back takes its part away again.
func TestManyChangesAreOneRefresh(t *testing.T) {
	t.Parallel()
	c := setup(t)
	c.noted(plainRow)
	c.sql("INSERT INTO note (id, user_id) SELECT i, mod(i, 2) FROM generate_series(1, 300) i")
	c.written()
	c.sql("UPDATE note SET is_read = true")
	got := c.written()
	slices.Sort(got)
	if !slices.Equal(got, []string{"refresh 0 ", "refresh 1 "}) {
		t.Errorf("%d rows are written: %q", len(got), got)
	}
	c.sql("BEGIN; SAVEPOINT s; UPDATE note SET is_read = false; ROLLBACK TO s; UPDATE note SET is_read = false WHERE id <= 100; COMMIT")
	if got := c.written(); len(got) != 100 || slices.ContainsFunc(got, func(line string) bool { return strings.HasPrefix(line, "refresh") }) {
		t.Errorf("after a savepoint %d rows are written", len(got))
	}
	c.sql("UPDATE note SET is_read = true WHERE user_id = '1' AND id <= 200")
	if got := c.written(); len(got) != 50 && len(got) != 100 {
		t.Errorf("100 rows of one user are %d", len(got))
	}
}

// A recipient of several columns must not be one that other columns make.
func TestCaptureRowJoinsColumns(t *testing.T) {
	t.Parallel()
	c := setup(t)
	c.noted(`'{tenant_id,user_id}', '{2,3}', 'code', '6', 'm:', 'm:', '{}', '{}', '', '', '', ''`)
	c.sql("INSERT INTO note (id, tenant_id, user_id) VALUES (1, 'a', 'b'), (2, 'a:b', 'c'), (3, '', 'b'), (4, NULL, 'b')")
	c.wrote("several columns", "notification m:a:b m:a", "notification  m:a", "notification  m:a", "notification  m:a")
	c.sql("UPDATE note SET is_read = true; DELETE FROM note")
	c.wrote("without --on-update and --on-delete")
}

// A row whose time lies ahead comes when it is due, as it is then.
func TestRowsComeWhenTheyAreDue(t *testing.T) {
	t.Parallel()
	c := setup(t)
	c.noted(`'{user_id}', '{3}', 'id', '1', '', '', '{is_read}', '{4}', 'due', '7', 'delete', 'usual'`)
	release := func(want int) {
		t.Helper()
		var released int
		if err := c.conn.QueryRow(t.Context(), "SELECT released FROM notification_gateway.release_due(1000)").Scan(&released); err != nil || released != want {
			t.Errorf("%d rows are released, want %d: %v", released, want, err)
		}
	}
	c.sql(`INSERT INTO note (id, user_id, due) SELECT i, '5', CASE i WHEN 1 THEN NULL WHEN 2 THEN '2020-01-01' ELSE now() AT TIME ZONE 'UTC' + interval '1 hour' END
		FROM generate_series(1, 6) i`)
	c.wrote("null and past times are at once", "notification 5 1", "notification 5 2")
	release(0)
	c.sql("UPDATE note SET due = '2020-01-01' WHERE id = 3; DELETE FROM note WHERE id = 4; UPDATE note SET user_id = '6' WHERE id = 5")
	c.wrote("re-dated, deleted, given away before it was due", "notification 5 3")
	c.sql("UPDATE notification_gateway.due SET at = now() - interval '1 second'")
	release(2)
	got := c.written()
	slices.Sort(got)
	if !slices.Equal(got, []string{"notification 5 6", "notification 6 5"}) {
		t.Errorf("what is due is %q", got)
	}
	c.sql("UPDATE note SET due = 'infinity' WHERE id = 6")
	c.wrote("dated ahead again", "removed 5 6")
}

// A row that an UPDATE moves to another partition is deleted and inserted.
func TestARowThatMovesBetweenPartitionsIsNotNew(t *testing.T) {
	t.Parallel()
	c := setup(t)
	c.sql(`CREATE TABLE note (id bigint, user_id text, is_read boolean) PARTITION BY LIST (is_read);
		CREATE TABLE unread PARTITION OF note FOR VALUES IN (false); CREATE TABLE seen PARTITION OF note FOR VALUES IN (true);
		CREATE TRIGGER i AFTER INSERT ON note FOR EACH ROW EXECUTE FUNCTION notification_gateway.capture_row('begins', %[1]s);
		CREATE TRIGGER u AFTER UPDATE ON note FOR EACH ROW EXECUTE FUNCTION notification_gateway.capture_row('stays', %[1]s);
		CREATE TRIGGER d AFTER DELETE ON note FOR EACH ROW EXECUTE FUNCTION notification_gateway.capture_row('ceases', %[1]s)`,
		`'{user_id}', '{2}', 'id', '1', '', '', '{is_read}', '{3}', '', '', 'delete', 'usual', 'parted'`)
	c.sql("INSERT INTO note VALUES (1, '5', false)")
	c.written()
	c.sql("UPDATE note SET is_read = true")
	c.wrote("a move", "updated 5 1")
	c.sql("BEGIN; DELETE FROM note; INSERT INTO note VALUES (1, '5', true); COMMIT")
	c.wrote("another row with the ID of one that was deleted", "removed 5 1", "notification 5 1")
	c.sql("DELETE FROM note; INSERT INTO note SELECT i, '5', false FROM generate_series(1, 90) i")
	c.written()
	c.sql("UPDATE note SET is_read = true")
	if got := c.written(); len(got) != 90 || got[0] != "updated 5 1" {
		t.Errorf("90 moves are %q", got)
	}
	c.sql("INSERT INTO note SELECT i, '5', true FROM generate_series(91, 300) i")
	c.written()
	c.sql("UPDATE note SET is_read = false")
	c.wrote("more moves than are told one by one", "refresh 5 ")
}

// A key that is padded by its type, in whatever place and row, is the one that the
// view has.
func TestCaptureRowReadsPaddedKeys(t *testing.T) {
	t.Parallel()
	c := setup(t)
	c.noted(`'{user_id,code}', '{3,6}', 'id', '1', '', '', '{is_read}', '{4}', '', '', 'delete', ''`)
	c.sql("INSERT INTO note (id, user_id, code) VALUES (1, '5', 'ab'); UPDATE note SET code = 'abcd'; UPDATE note SET is_read = true; DELETE FROM note")
	c.wrote("the last part is char(4)", "notification 5:ab 1", "removed 5:ab 1", "notification 5:abcd 1", "updated 5:abcd 1", "removed 5:abcd 1")
	c.sql("DROP TABLE note")
	c.noted(`'{code,user_id}', '{6,3}', 'id', '1', '', '', '{is_read}', '{4}', '', '', 'delete', ''`)
	c.sql("INSERT INTO note (id, user_id, code) VALUES (1, '5', 'ab'); UPDATE note SET code = 'abcd'")
	c.wrote("the first part is", "notification ab:5 1", "removed ab:5 1", "notification abcd:5 1")
	c.sql("DROP TABLE note")
	c.noted(`'{code}', '{6}', 'id', '1', '', '', '{is_read}', '{4}', '', '', 'delete', ''`)
	c.sql("INSERT INTO note (id, code) VALUES (1, 'ab'); UPDATE note SET code = 'abcd'")
	c.wrote("only the old one is padded", "notification ab 1", "removed ab 1", "notification abcd 1")
}

// Past 100 changes of a user rows are looked at no more, except whether they are
// still the same ones: a stream that asks for no changes gets no refresh.
func TestRowsWithOtherIDsAreNewPast100Changes(t *testing.T) {
	t.Parallel()
	c := setup(t)
	c.noted(plainRow)
	c.sql("INSERT INTO note (id, user_id) SELECT i, '5' FROM generate_series(1, 150) i")
	c.written()
	c.sql("UPDATE note SET id = id + 1000")
	if got := c.written(); len(got) != 151 {
		t.Errorf("150 rows with other IDs are written as %q", got)
	}
}

// A gateway may release a row while a transaction of the CRM that reads one snapshot
// is about to change it. The CRM's transaction goes on, and the row counts as delivered.
func TestADueRowIsReleasedUnderARepeatableRead(t *testing.T) {
	t.Parallel()
	c := setup(t)
	c.noted(`'{user_id}', '{3}', 'id', '1', '', '', '{is_read}', '{4}', 'due', '7', 'delete', 'usual'`)
	c.sql("INSERT INTO note (id, user_id, due) VALUES (1, '5', '2999-01-01')")
	other, err := pgx.Connect(t.Context(), c.url)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close(context.Background())
	c.sql("UPDATE notification_gateway.due SET at = '2020-01-01'")
	if _, err := other.Exec(t.Context(), "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT FROM note"); err != nil {
		t.Fatal(err)
	}
	c.sql("SELECT notification_gateway.release_due(10)")
	if _, err := other.Exec(t.Context(), "UPDATE note SET due = '2999-02-02'; COMMIT"); err != nil {
		t.Errorf("the CRM's transaction: %v", err)
	}
	c.wrote("released and put off", "notification 5 1", "removed 5 1")
}

// A CRM may give a column any type. Its writes must not fail because ours was a
// time.
func TestDueColumnOfAnotherType(t *testing.T) {
	t.Parallel()
	c := setup(t)
	c.noted(`'{user_id}', '{3}', 'id', '1', '', '', '{is_read}', '{4}', 'due', '7', 'delete', 'usual'`)
	for i, column := range []string{"text DEFAULT 'soon'", "bigint DEFAULT 5", "json DEFAULT '{}'", "time DEFAULT '12:00'"} {
		c.sql("ALTER TABLE note DROP COLUMN due; ALTER TABLE note ADD due %[1]s; INSERT INTO note (id, user_id) VALUES (%[2]d, '5'); UPDATE note SET is_read = true WHERE id = %[2]d", column, i)
		c.wrote(column, fmt.Sprintf("notification 5 %d", i), fmt.Sprintf("updated 5 %d", i))
	}
}

// The adopter's own triggers say whom and what; a word that is none of ours is
// an error that they see.
func TestRecordWritesWhatItIsTold(t *testing.T) {
	t.Parallel()
	c := setup(t)
	c.sql("SELECT notification_gateway.record('5', '1'), notification_gateway.record('5', '1', 'updated'), notification_gateway.record('5', '1', 'removed')")
	c.wrote("record", "notification 5 1", "updated 5 1", "removed 5 1")
	if _, err := c.conn.Exec(t.Context(), "SELECT notification_gateway.record('5', '1', 'changed')"); err == nil {
		t.Error("record takes a word that is none of its own")
	}
}

// Every function is either for the run-time role, or named here as not: it can
// write what it is told into the log, and so into anybody's stream.
func TestTheRunTimeRoleCallsNoMoreThanItNeeds(t *testing.T) {
	t.Parallel()
	c := setup(t)
	c.as("caller")
	c.sql("GRANT USAGE ON SCHEMA notification_gateway TO gateway_test_caller")
	granted(t, c, "caller")
	rows, err := c.conn.Query(t.Context(), `SELECT p.proname::text FROM pg_proc p WHERE p.pronamespace = 'notification_gateway'::regnamespace
		AND NOT has_function_privilege('gateway_test_caller', p.oid, 'EXECUTE') ORDER BY 1`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var refused []string
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			t.Fatal(err)
		}
		refused = append(refused, name)
	}
	want := []string{"begin_installation", "capture", "capture_row", "changes_so_far", "commit_locally", "disconnect", "due_time", "joined_key", "moved", "record", "ring", "row_values", "take_removal", "write_change"}
	if !slices.Equal(refused, want) {
		t.Errorf("the run-time role may not call %q, want %q", refused, want)
	}
}
