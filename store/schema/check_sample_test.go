package schema_test

import (
	"testing"

	"github.com/seed-64e334f9/notification-gateway/store/schema"
)

// check loaded any row of the view, often one from before the CRM renamed a
// column, which is null in all rows since.
func TestSampleLoadsTheNewestOfEachType(t *testing.T) {
	t.Parallel()
	c := notes(t, "CREATE TABLE note (id bigint, user_id bigint, kind text, title text)")
	c.expectFinding("sample", true, "no notification yet to try", "")
	c.sql("INSERT INTO note VALUES (1, 5, 'call', 'x'), (2, 5, 'mail', NULL), (3, 7, 'call', NULL)")
	c.expectFinding("sample", true, "the newest 3 captured rows load; notification_type: call, mail; null in all of them: old", "")
	c.sql("DELETE FROM note")
	c.expectFinding("sample", false, "the feed shows no row at all, and the log has 3", "")
}

// Two IDs past 2^53 are one number in a browser, which dropped the second.
func TestIDsThatABrowserCannotTellApart(t *testing.T) {
	t.Parallel()
	c := notes(t, "CREATE TABLE note (id bigint, user_id bigint, kind text, title text)")
	c.sql("INSERT INTO note VALUES (9007199254740993, 5, 'call', 'x')")
	c.expectFinding("sample", true, "data.id is 9007199254740993", "json_build_object('id', id::text")
}

// One message to many is one ID for many users: check called it a column that
// was captured for somebody else.
func TestOneIDForManyUsersIsNoFault(t *testing.T) {
	t.Parallel()
	c := notes(t, "CREATE TABLE note (id bigint, user_id bigint, kind text, title text, PRIMARY KEY (id, user_id))")
	c.sql("INSERT INTO note SELECT g %% 3, g, 'call' FROM generate_series(1, 30) g")
	c.expectFinding("columns", true, "the feed has 30 of the newest 30 captured rows, 0 of them", "")
}

// Tokens of a subject with two rows are refused: nobody said so before a user
// could not get in.
func TestIdentityWithDuplicates(t *testing.T) {
	t.Parallel()
	c := notes(t, "CREATE TABLE note (id bigint, user_id bigint, kind text, title text)")
	c.sql("CREATE VIEW notification_gateway.identity AS SELECT s AS subject, k AS user_key FROM (VALUES (1, 5), (2, 7), (2, 8)) v (s, k)")
	c.expectFinding("identity", false, "several rows for the subject 2", "one row for each subject")
}

// Another function of the same name than this gateway's may lack what it needs.
func TestFunctionsOfAnotherVersionAreSaid(t *testing.T) {
	t.Parallel()
	c := setup(t)
	c.expectFinding("objects", true, "version", "")
	c.sql("CREATE OR REPLACE FUNCTION notification_gateway.mind() RETURNS boolean LANGUAGE sql AS 'SELECT false'")
	c.expectFinding("objects", false, "the function mind() is not the one of this gateway", "run gateway migrate")
	c.sql("DROP FUNCTION notification_gateway.mind()")
	c.expectFinding("objects", false, "the function mind is missing", "run gateway migrate")
}

// A CRM that tells of deleted rows had a red line when there was no other one.
func TestSampleOfRowsThatWereRemoved(t *testing.T) {
	t.Parallel()
	c := notes(t, "CREATE TABLE note (id bigint, user_id bigint, kind text, title text)")
	if _, err := schema.Attach(t.Context(), c.url, schema.AttachOptions{Table: "note", UserColumns: []string{"user_id"}, IDColumn: "id", OnDelete: true}); err != nil {
		t.Fatal(err)
	}
	c.sql("INSERT INTO note VALUES (1, 5), (2, 5); DELETE FROM note")
	c.expectFinding("sample", true, "2 of the newest, was removed or changed since", "")
	c.sql("INSERT INTO note VALUES (3, 5); ALTER TABLE note DISABLE TRIGGER notification_gateway_delete; DELETE FROM note; ALTER TABLE note ENABLE ALWAYS TRIGGER notification_gateway_delete")
	c.expectFinding("sample", false, "the feed shows no row at all, and the log has 3", "")
}
