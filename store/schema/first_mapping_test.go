package schema_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/seed-64e334f9/notification-gateway/sql"
	"github.com/seed-64e334f9/notification-gateway/store/schema"
	"github.com/seed-64e334f9/notification-gateway/store/storetest"
)

// What init writes must load as it stands, for the tables that public applications
// have, and show a row of them.
func TestFirstMappingLoadsAsItStands(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		tables, insert          string
		table, user, read, data string
	}{
		"the reference CRM": {
			sql.ReferenceCRM, `INSERT INTO employees (id, first_name, last_name, email) VALUES (5, 'A', 'B', 'c@example.com');
				INSERT INTO notifications (user_id, notification_type, title, message) VALUES (5, 'task_assignment', 'Task assigned', 'm')`,
			"public.notifications", "user_id", "is_read", `"title": "Task assigned"`,
		},
		"EspoCRM": {
			`CREATE TABLE "user" (id varchar(17) PRIMARY KEY, user_name varchar(50), deleted boolean DEFAULT false);
			CREATE TABLE notification (id varchar(17) PRIMARY KEY, deleted boolean DEFAULT false, number bigserial, data text, type varchar(255), read boolean NOT NULL DEFAULT false, created_at timestamp(0), message text,
				action_id varchar(36), user_id varchar(17), related_id varchar(17), related_type varchar(100), created_by_id varchar(17))`,
			"INSERT INTO notification (id, user_id, type, message) VALUES ('n', 'u', 'Message', 'hello')",
			"public.notification", "user_id", "read", `"message" : "hello"`,
		},
		"GitLab": {
			`CREATE TABLE projects (id bigserial PRIMARY KEY, name text, description text);
			CREATE TABLE todos (id bigserial PRIMARY KEY, user_id bigint NOT NULL, project_id bigint, target_type varchar NOT NULL, author_id bigint NOT NULL, action integer NOT NULL, state varchar NOT NULL, created_at timestamp, snoozed_until timestamptz)`,
			"INSERT INTO todos (user_id, target_type, author_id, action, state) VALUES (5, 'Issue', 6, 1, 'pending')",
			"public.todos", "user_id", "", `"notification_type" : 1`,
		},
		"Laravel": {
			`CREATE TABLE users (id bigserial PRIMARY KEY, name varchar(255), email varchar(255) UNIQUE);
			CREATE TABLE notifications (id uuid NOT NULL PRIMARY KEY, type varchar(255) NOT NULL, notifiable_type varchar(255) NOT NULL, notifiable_id bigint NOT NULL, data text NOT NULL, read_at timestamp(0), created_at timestamp(0), updated_at timestamp(0))`,
			`INSERT INTO notifications VALUES ('6ba7b810-9dad-11d1-80b4-00c04fd430c8', 'Paid', 'User', 5, '{"amount":1}', NULL, now(), now())`,
			"public.notifications", "notifiable_id", "read_at", `"notification_type" : "Paid"`,
		},
		"Mastodon": {
			`CREATE TABLE users (id bigserial PRIMARY KEY, email varchar, account_id bigint NOT NULL);
			CREATE TABLE notifications (id bigserial PRIMARY KEY, activity_id bigint NOT NULL, activity_type varchar NOT NULL, created_at timestamp NOT NULL, account_id bigint NOT NULL, from_account_id bigint NOT NULL, type varchar, filtered boolean NOT NULL DEFAULT false)`,
			"INSERT INTO notifications (activity_id, activity_type, created_at, account_id, from_account_id, type) VALUES (1, 'Status', now(), 109, 110, 'mention')",
			"public.notifications", "account_id", "", `"notification_type" : "mention"`,
		},
		"Odoo": {
			`CREATE TABLE res_partner (id serial PRIMARY KEY, name varchar);
			CREATE TABLE mail_notification (id serial PRIMARY KEY, author_id integer, mail_message_id integer NOT NULL, res_partner_id integer, notification_type varchar NOT NULL, notification_status varchar, is_read boolean, read_date timestamp, failure_reason text)`,
			"INSERT INTO mail_notification (mail_message_id, res_partner_id, notification_type) VALUES (1, 50, 'inbox')",
			"public.mail_notification", "res_partner_id", "is_read", `"notification_type" : "inbox"`,
		},
		"Plane": {
			`CREATE TABLE notifications (id uuid PRIMARY KEY, created_at timestamptz NOT NULL, deleted_at timestamptz, created_by_id uuid, data jsonb, entity_name varchar(255) NOT NULL, title text NOT NULL, message jsonb, sender varchar(255) NOT NULL, read_at timestamptz, receiver_id uuid NOT NULL, workspace_id uuid NOT NULL)`,
			"INSERT INTO notifications (id, created_at, entity_name, title, sender, receiver_id, workspace_id) VALUES (gen_random_uuid(), now(), 'issue', 'Assigned', 'in_app', gen_random_uuid(), gen_random_uuid())",
			"public.notifications", "receiver_id", "read_at", `"notification_type" : "in_app"`,
		},
		"django-notifications": {
			`CREATE TABLE notifications_notification (id serial PRIMARY KEY, recipient_id integer NOT NULL, verb varchar(255) NOT NULL, unread boolean NOT NULL DEFAULT true, timestamp timestamptz NOT NULL DEFAULT now())`,
			"INSERT INTO notifications_notification (recipient_id, verb) VALUES (5, 'commented')",
			"public.notifications_notification", "recipient_id", "unread", `"notification_type" : "commented"`,
		},
		"capitals and partitions": {
			`CREATE SCHEMA "Crm"; CREATE TABLE "Crm"."Notification" ("Id" uuid, "UserId" uuid NOT NULL, "Kind" text, "Title's" text, "Title" text, "CreatedAt" timestamptz NOT NULL, "Read" boolean, PRIMARY KEY ("Id", "CreatedAt")) PARTITION BY RANGE ("CreatedAt");
			CREATE TABLE "Crm".part PARTITION OF "Crm"."Notification" DEFAULT`,
			`INSERT INTO "Crm"."Notification" VALUES (gen_random_uuid(), gen_random_uuid(), 'k', 'quoted', 't', now(), false)`,
			`"Crm"."Notification"`, "UserId", "Read", `"Title's" : "quoted"`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			crm := crmAt(t, storetest.Database(t))
			crm.sql("%s", c.tables)
			draft, err := schema.FirstMapping(t.Context(), crm.url, "")
			if err != nil {
				t.Fatal(err)
			}
			if draft.Table != c.table || draft.User != c.user || draft.Read != c.read {
				t.Errorf("init takes %s with %s and %q, want %s, %s and %q", draft.Table, draft.User, draft.Read, c.table, c.user, c.read)
			}
			if named, err := schema.FirstMapping(t.Context(), crm.url, c.table); err != nil || named.Mapping != draft.Mapping {
				t.Errorf("named, the table has another mapping: %v", err)
			}
			done, err := schema.Migrate(t.Context(), crm.url, schema.MigrateOptions{Mapping: draft.Mapping})
			if err != nil || !slices.Contains(done, "mapping applied") {
				t.Fatalf("migrate says %q, %v of\n%s", done, err, draft.Mapping)
			}
			options := schema.AttachOptions{Table: draft.Table, UserColumns: []string{draft.User}, IDColumn: draft.IDColumn, OnDelete: true}
			if draft.Read != "" {
				options.OnUpdate = []string{draft.Read}
			}
			if _, err := schema.Attach(t.Context(), crm.url, options); err != nil {
				t.Fatal(err)
			}
			crm.sql("%s", c.insert)
			var data string
			var unread bool
			if err := crm.conn.QueryRow(t.Context(), "SELECT data::text, NOT is_read FROM notification_gateway.feed").Scan(&data, &unread); err != nil ||
				!strings.Contains(strings.ReplaceAll(data, `" :`, `":`), strings.ReplaceAll(c.data, `" :`, `":`)) || !unread {
				t.Errorf("the feed has %s, unread %v: %v", data, unread, err)
			}
			for _, f := range schema.Check(t.Context(), schema.CheckOptions{URL: crm.url, Auto: true}) {
				if !f.OK {
					t.Errorf("check says %+v", f)
				}
			}
		})
	}
}

// Where nothing looks like notifications init must say so, and what a table lacks.
func TestFirstMappingSaysWhatIsMissing(t *testing.T) {
	t.Parallel()
	c := crmAt(t, storetest.Database(t))
	c.sql("CREATE TABLE note (id bigint PRIMARY KEY, title text); CREATE TABLE price (amount numeric)")
	for table, want := range map[string]string{"": "name the one that holds the notifications", "note": "looks like a recipient", "price": "looks like a key", "gone": "there is no table gone"} {
		if _, err := schema.FirstMapping(t.Context(), c.url, table); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("of %q init says %v, want %q", table, err, want)
		}
	}
}
