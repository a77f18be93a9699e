package schema_test

import (
	"strings"
	"testing"

	"github.com/seed-64e334f9/notification-gateway/store/schema"
	"github.com/seed-64e334f9/notification-gateway/store/storetest"
)

// alerts is a CRM whose notification table has two UUIDs, an integer, texts
// and domains, mapped by a view that selects id and user_key.
func alerts(t *testing.T, id, userKey string) *crm {
	t.Helper()
	c := crmAt(t, storetest.Database(t))
	c.sql(`CREATE DOMAIN person AS uuid; CREATE DOMAIN recipient AS person;
		CREATE TABLE alert (number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, key uuid NOT NULL DEFAULT gen_random_uuid(),
			for_person recipient NOT NULL, by_person uuid NOT NULL, headline text NOT NULL, short varchar(20), amount numeric, made timestamptz NOT NULL DEFAULT now())`)
	c.alertsView(id, userKey)
	return c
}

func (c *crm) alertsView(id, userKey string) {
	c.Helper()
	mapping := "GRANT SELECT ON public.alert TO notification_gateway_owner; DROP VIEW IF EXISTS notification_gateway.feed; CREATE VIEW notification_gateway.feed AS SELECT " + id + " AS id, " + userKey +
		" AS user_key, json_build_object('title', headline) AS data, made AS created_at, false AS is_read FROM public.alert;"
	if _, err := schema.Migrate(c.Context(), c.url, schema.MigrateOptions{Mapping: mapping}); err != nil {
		c.Fatal(err)
	}
}

func (c *crm) attach(user, id string) error {
	_, err := schema.Attach(c.Context(), c.url, schema.AttachOptions{Table: "alert", UserColumns: []string{user}, IDColumn: id})
	return err
}

// columns returns what the doctor says of the columns.
func (c *crm) columns() schema.Finding { return c.finding("columns") }

const (
	alice = "11111111-1111-4111-8111-111111111111"
	bob   = "22222222-2222-4222-8222-222222222222"
	alert = "INSERT INTO alert (for_person, by_person, headline) VALUES ('" + alice + "', '" + bob + "', 'x');"
)

// Swapped or wrong columns write keys to the log that the feed never has:
// every notification is lost, and nothing said so.
func TestAttachRefusesColumnsThatCannotMatch(t *testing.T) {
	t.Parallel()
	c := alerts(t, "number", "for_person")
	for _, pair := range [][2]string{{"number", "for_person"}, {"headline", "number"}, {"for_person", "key"}, {"made", "number"}} {
		if err := c.attach(pair[0], pair[1]); err == nil || !strings.Contains(err.Error(), "but feed.") {
			t.Errorf("attach to %v: %v", pair, err)
		}
	}
	for _, pair := range [][2]string{{"by_person", "number"}, {"for_person", "amount"}, {"for_person", "number"}} {
		if err := c.attach(pair[0], pair[1]); err != nil {
			t.Errorf("attach to %v: %v", pair, err)
		}
	}
	if f := c.columns(); !f.OK || !strings.Contains(f.Detail, "nothing was captured") {
		t.Errorf("check says %+v", f)
	}
	c.alertsView("key", "for_person")
	if f := c.columns(); f.OK || !strings.Contains(f.Detail, `column "number" of public.alert is bigint, but feed.id is uuid`) || !strings.Contains(f.Mend, "--id-column") {
		t.Errorf("check says %+v", f)
	}
	c.alertsView("number::text", "for_person::text") // as a view over two tables must
	if err := c.attach("for_person", "number"); err != nil {
		t.Error(err)
	}
	c.sql("DROP VIEW notification_gateway.feed")
	if err := c.attach("headline", "short"); err != nil {
		t.Errorf("without a view: %v", err)
	}
}

// A column of the right type may be the wrong one: only the rows can tell.
func TestCheckComparesCapturedRowsWithTheFeed(t *testing.T) {
	t.Parallel()
	c := alerts(t, "number", "for_person")
	if err := c.attach("by_person", "number"); err != nil {
		t.Fatal(err)
	}
	expect := func(ok bool, text string) {
		t.Helper()
		if f := c.columns(); f.OK != ok || !strings.Contains(f.Detail, text) || (f.Mend == "") != ok {
			t.Errorf("check says %+v, want %q", f, text)
		}
	}
	c.sql(alert)
	expect(false, `item 1 was captured for "`+bob+`", the feed has it for "`+alice+`"`)
	c.alertsView("number", "by_person")
	expect(true, "has 1 of the newest 1")
	c.alertsView("number", "for_person")
	expect(false, "captured for")
	if err := c.attach("for_person", "number"); err != nil { // what was captured before does not count against it
		t.Fatal(err)
	}
	expect(true, "nothing was captured yet")
	c.sql(alert)
	expect(true, "has 1 of the newest 1 captured rows, 0 of them")
	c.sql(alert + alert + "UPDATE alert SET for_person = '" + bob + "' WHERE number = 4; SELECT notification_gateway.disconnect('" + alice + "', '')")
	expect(true, "has 3 of the newest 3 captured rows, 1 of them") // re-assigned
	if err := c.attach("for_person", "amount"); err != nil {       // null in every row, which was taken for nothing captured
		t.Fatal(err)
	}
	c.sql(alert)
	expect(false, "1 of the newest captured rows have no ID")
}

// Rows that the CRM deletes are no fault; rows that are there and that the log
// knows by another column are.
func TestCheckTellsDeletedRowsFromUnknownOnes(t *testing.T) {
	t.Parallel()
	c := alerts(t, "key", "for_person")
	expect := func(ok bool, text string) {
		t.Helper()
		if f := c.columns(); f.OK != ok || !strings.Contains(f.Detail, text) {
			t.Errorf("check says %+v, want %q", f, text)
		}
	}
	c.sql(alert) // from before
	if err := c.attach("for_person", "key"); err != nil {
		t.Fatal(err)
	}
	c.sql(alert)
	c.sql(alert)
	c.sql("DELETE FROM alert WHERE number = 2")
	expect(true, "has 1 of the newest 2")
	c.sql("DELETE FROM alert WHERE number = 3")
	expect(true, "none of the newest 2 captured rows: they were deleted, or")
	if err := c.attach("key", "for_person"); err != nil { // swapped, and both are UUIDs
		t.Fatal(err)
	}
	c.sql(alert)
	expect(false, "the columns are swapped")
	c.sql("ALTER TABLE alert ADD other uuid DEFAULT gen_random_uuid()")
	if err := c.attach("for_person", "other"); err != nil {
		t.Fatal(err)
	}
	c.sql(alert)
	c.sql(alert)
	expect(false, "which was not captured")
}
