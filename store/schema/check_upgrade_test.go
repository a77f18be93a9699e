package schema_test

import (
	"strings"
	"testing"

	"github.com/seed-64e334f9/notification-gateway/store/schema"
)

// Under the pinned path a function of a mapping did not find its tables any more,
// which only a row of that kind would have shown.
func TestCheckFindsFunctionsWithoutTheirPath(t *testing.T) {
	t.Parallel()
	c := setup(t)
	if f := c.finding("functions"); !f.OK || f.Mend != "" {
		t.Errorf("of the reference mapping check says %+v", f)
	}
	c.sql(`CREATE FUNCTION public.lead_name(n bigint) RETURNS text LANGUAGE plpgsql AS 'BEGIN RETURN (SELECT l.title FROM leads l WHERE l.id = n); END';
		GRANT EXECUTE ON FUNCTION public.lead_name TO notification_gateway_owner; SET ROLE notification_gateway_owner; DROP VIEW notification_gateway.feed;
		CREATE VIEW notification_gateway.feed AS SELECT n.id, n.user_id AS user_key, json_build_object('id', n.id, 'lead', public.lead_name(n.lead_id)) AS data, n.created_at, n.is_read
			FROM public.notifications n; RESET ROLE`)
	f := c.finding("functions")
	if !f.OK || !strings.Contains(f.Detail, "public.lead_name(bigint)") || !strings.Contains(f.Mend, "search_path") {
		t.Errorf("of a function that names leads without its schema check says %+v", f)
	}
	c.sql("ALTER FUNCTION public.lead_name SET search_path = public, pg_temp")
	if f := c.finding("functions"); f.Mend != "" {
		t.Errorf("of a function with a path of its own check says %+v", f)
	}
}

// A list of unread notifications has the newest alone since it has a bound.
func TestCheckSaysWhoseUnreadListIsTruncated(t *testing.T) {
	t.Parallel()
	c := setup(t)
	c.sql(`INSERT INTO employees (id, first_name, last_name, email) VALUES (77, 'A', 'B', 'seventy-seven@example.com');
		INSERT INTO notifications (user_id, notification_type, title, message) SELECT 77, 'x', 'x', 'x' FROM generate_series(1, 11)`)
	for limit, want := range map[int]string{10: "somebody has 11 unread notifications; replay=unread brings the newest 10", 11: "nobody has more than 11"} {
		if f := c.findingOf(schema.CheckOptions{URL: c.url, ReplayLimit: limit}, "unread"); !f.OK || !strings.Contains(f.Detail, want) || (f.Mend != "") != (limit == 10) {
			t.Errorf("with a limit of %d check says %+v", limit, f)
		}
	}
}

// With auto as its default a token means somebody else than with claim.
func TestCheckSaysWhatLookingUpChanges(t *testing.T) {
	t.Parallel()
	c := setup(t)
	c.sql("INSERT INTO employees (id, first_name, last_name, email) VALUES (5, 'A', 'B', 'five@example.com') ON CONFLICT (id) DO UPDATE SET email = EXCLUDED.email; INSERT INTO auth_user (id, username) VALUES (50, 'five@example.com')")
	if f := c.findingOf(schema.CheckOptions{URL: c.url, Auto: true}, "identity"); !f.OK || !strings.Contains(f.Detail, "a token for 50 gets what is for 5, and with claim") {
		t.Errorf("check says %+v", f)
	}
}
