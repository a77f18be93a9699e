package schema_test

import (
	"strings"
	"testing"

	"github.com/seed-64e334f9/notification-gateway/store/schema"
	"github.com/seed-64e334f9/notification-gateway/store/storetest"
)

// A mapping that the gateway cannot read was applied all the same, and the
// doctor's advice was to apply it again. It must be refused and undone, and
// what Postgres says of it must name the line.
func TestMigrateRefusesAMappingThatCannotServe(t *testing.T) {
	t.Parallel()
	c := alerts(t, "number", "for_person")
	c.sql(alert)
	const good = "number AS id, for_person AS user_key, json_build_object('title', headline) AS data, made AS created_at, false AS is_read"
	for name, m := range map[string]struct{ old, with, says string }{
		"a column's name":     {"user_key", "userkey", "has no column user_key, but id, userkey, data"},
		"created_at as text":  {"made AS", "made::text AS", "created_at of the view feed is text, not timestamp with time zone"},
		"is_read as text":     {"false", "'f'::text", "is_read of the view feed is text, not boolean"},
		"id as numeric":       {"number AS", "number::numeric AS", "id of the view feed is numeric, not an integer"},
		"user_key as time":    {"for_person AS", "made AS", "user_key of the view feed is timestamp with time zone, not an integer"},
		"data as an integer":  {"json_build_object('title', headline)", "1", "data of the view feed is integer, not json"},
		"data that is text":   {"json_build_object('title', headline)", "headline", "load a row of the view feed: data is no JSON"},
		"data is an array":    {"json_build_object('title', headline)", "json_build_array(1)", "load a row of the view feed: data is no JSON object"},
		"a row that fails":    {"false", "(headline || number)::boolean", "load a row of the view feed: ERROR: invalid input syntax for type boolean"},
		"a column that fails": {"made AS", "(headline || number)::timestamptz AS", "load a row of the view feed: ERROR: invalid input syntax for type timestamp"},
		"an identity":         {"FROM", "FROM public.alert; CREATE VIEW notification_gateway.identity AS SELECT 1 AS subject FROM", "the view identity must have the columns subject and user_key, and has subject"},
		"a name in line 3":    {"for_person", "\nfor_nobody", `my_crm.sql:3: ERROR: column "for_nobody" does not exist`},
		"an end too early":    {"FROM public.alert", "FROM", "my_crm.sql:2: ERROR: syntax error at end of input"},
		"rows of its own":     {"FROM public.alert", "FROM public.alert;\nCOPY public.alert from stdin", "my_crm.sql:3: COPY … FROM STDIN has no input here"},
		"a commit":            {"FROM public.alert", "FROM public.alert; ROLLBACK", "it must not end the transaction"},
		"another transaction": {"FROM public.alert", "FROM public.alert; ROLLBACK; BEGIN", "it must not end the transaction"},
	} {
		mapping := "DROP VIEW notification_gateway.feed; -- é\nCREATE VIEW notification_gateway.feed AS SELECT " + good + " FROM public.alert"
		mapping = strings.Replace(mapping, m.old, m.with, 1)
		_, err := schema.Migrate(t.Context(), c.url, schema.MigrateOptions{Mapping: mapping, MappingName: "my_crm.sql"})
		if err == nil || !strings.Contains(err.Error(), m.says) || !strings.Contains(err.Error(), "my_crm.sql") {
			t.Errorf("%s: %v", name, err)
		}
		for _, f := range []string{"feed", "sample"} {
			if f := c.finding(f); !f.OK {
				t.Errorf("%s was not undone: %+v", name, f)
			}
		}
	}
	c.sql(`DROP VIEW notification_gateway.feed; CREATE VIEW notification_gateway.feed AS
		SELECT number AS id, for_person AS user_key, '{}'::json AS data, headline::timestamptz AS created_at, false AS is_read FROM alert`)
	if f := c.finding("sample"); f.OK || !strings.Contains(f.Mend, "mend the mapping, then") {
		t.Errorf("check says %+v", f)
	}
}

// A mapping runs under a pinned search_path, where the names that worked in psql
// are not found; Postgres alone says that they do not exist.
func TestMappingSaysWhichSchemaIsMissing(t *testing.T) {
	t.Parallel()
	c := crmAt(t, storetest.Database(t))
	c.sql(`CREATE SCHEMA "Crm"; CREATE TABLE "Crm"."Notes" (id bigint); CREATE TABLE notes (id bigint);
		CREATE FUNCTION full_name(text) RETURNS text LANGUAGE sql AS 'SELECT $1'; CREATE DOMAIN person AS bigint`)
	for mapping, says := range map[string]string{
		"GRANT SELECT ON notes TO notification_gateway_owner":               "so write public.notes",
		"CREATE VIEW notification_gateway.feed AS SELECT 1 FROM\n\"Notes\"": `mapping:2: ERROR: relation "Notes" does not exist (SQLSTATE 42P01): a mapping runs under search_path = pg_catalog, pg_temp, so write "Crm"."Notes"`,
		"SELECT FULL_NAME('x'::text)":                                       "so write public.full_name",
		"SELECT 1::person":                                                  "so write public.person",
		"SELECT 1 FROM nowhere":                                             "a mapping names its CRM's tables",
	} {
		if _, err := schema.Migrate(t.Context(), c.url, schema.MigrateOptions{Mapping: mapping}); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s says %v, want %q", mapping, err, says)
		}
	}
}

// Whoever may call a trigger function may put it on a temporary table, and so have
// it record what they like for whom they like.
func TestTriggerFunctionsOfAMappingAreNobodys(t *testing.T) {
	t.Parallel()
	c := setup(t)
	c.as("trigger_caller")
	mapping := `SET LOCAL ROLE notification_gateway_owner;
		CREATE OR REPLACE FUNCTION notification_gateway.tell() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
		BEGIN PERFORM notification_gateway.record('7'::text, '1'::text); RETURN NULL; END $$;
		CREATE OR REPLACE FUNCTION notification_gateway.look() RETURNS integer LANGUAGE sql AS 'SELECT 1'; RESET ROLE;`
	options := schema.MigrateOptions{Mapping: mapping, GrantTo: "gateway_test_trigger_caller"}
	script, err := schema.MigrationScript(options, schema.ScriptOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for name, apply := range map[string]func(){
		"migrate": func() {
			if _, err := schema.Migrate(t.Context(), c.url, options); err != nil {
				t.Fatal(err)
			}
		},
		"the script": func() { c.sql("%s", script) },
	} {
		c.sql("DROP FUNCTION IF EXISTS notification_gateway.tell, notification_gateway.look")
		apply()
		var tell, look, everybody bool
		if err := c.conn.QueryRow(t.Context(), `SELECT has_function_privilege('gateway_test_trigger_caller', 'notification_gateway.tell()', 'EXECUTE'),
			has_function_privilege('gateway_test_trigger_caller', 'notification_gateway.look()', 'EXECUTE'), has_function_privilege('public', 'notification_gateway.look()', 'EXECUTE')`).Scan(&tell, &look, &everybody); err != nil {
			t.Fatal(err)
		}
		if tell || !look || everybody {
			t.Errorf("%s: the run-time role may call the trigger function %t, the view's %t; everybody may call that %t", name, tell, look, everybody)
		}
	}
}
