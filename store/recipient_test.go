package store_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/seed-64e334f9/notification-gateway/store"
	"github.com/seed-64e334f9/notification-gateway/store/schema"
	"github.com/seed-64e334f9/notification-gateway/store/storetest"
)

// In the reference CRM a token names a Django user; the recipient is the
// active employee of that user's username, else of the user's email.
func TestRecipient(t *testing.T) {
	t.Parallel()
	c := setupWith(t, store.Config{Recipients: store.RecipientLookup})
	c.sql(`INSERT INTO auth_user (id, username, email, is_active) VALUES (1, 'alice@example.com', 'bob@example.com', true),
		(2, 'bob', 'bob@example.com', true), (3, 'alice', 'alice@example.com', false), (4, 'x', 'nobody@example.com', true)`)
	for subject, want := range map[string]string{"1": "5", "2": "7", "3": "", "4": "", "99": "", "abc": "", "1; DROP TABLE x": "", "": "", "9223372036854775808": ""} {
		r, err := c.store.Recipient(t.Context(), subject)
		if want == "" && !errors.Is(err, store.ErrNoRecipient) || want != "" && (err != nil || r.UserKey != want || !r.Numeric) {
			t.Errorf("subject %q: %+v, %v, want %q", subject, r, err, want)
		}
	}
	c.sql("UPDATE employees SET is_active = false WHERE id = 5")
	if r, err := c.store.Recipient(t.Context(), "1"); err != nil || r.UserKey != "7" {
		t.Errorf("after Alice has left: %+v, %v, want Bob by email", r, err)
	}
}

// With GATEWAY_RECIPIENT=claim, the default, a Django user's token gets what is
// for the employee of the same number, and nothing said so.
func TestRecipientOfAClaimIsCompared(t *testing.T) {
	t.Parallel()
	c := setup(t)
	said := func() string {
		var log bytes.Buffer
		s, err := store.Open(t.Context(), store.Config{URL: c.url, Logger: slog.New(slog.NewTextHandler(&log, nil)), Metrics: store.NewMetrics(prometheus.NewRegistry())})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		store.NewIdentityView(s).Warn(t.Context())
		return log.String()
	}
	seen := func(ok bool) string {
		findings := schema.Check(t.Context(), schema.CheckOptions{URL: c.url})
		f := findings[slices.IndexFunc(findings, func(f schema.Finding) bool { return f.Name == "recipient" })]
		if f.OK != ok {
			t.Errorf("check says %+v", f)
		}
		return f.Detail
	}
	c.sql("INSERT INTO auth_user (id, username, email) VALUES (5, 'alice@example.com', '')")
	if log, check := said(), seen(true); log != "" || check != "a token's user is the recipient (GATEWAY_RECIPIENT=claim)" {
		t.Errorf("of like numbers the log says %q, check %q", log, check)
	}
	c.sql("INSERT INTO auth_user (id, username, email) VALUES (50, 'alice', 'alice@example.com')")
	if log, check := said(), seen(false); !strings.Contains(log, "level=WARN") || !strings.Contains(check, "a token for 50 what is for 50, and the view identity gives it what is for 5") {
		t.Errorf("of others the log says %q, check %q", log, check)
	}
}

// A view that is missing or may not be read is a fault of ours: answered as
// 403 it would look as if everybody had left.
func TestRecipientWithoutTheView(t *testing.T) {
	t.Parallel()
	c := setupWith(t, store.Config{Recipients: store.RecipientLookup})
	c.sql("DROP VIEW notification_gateway.identity")
	if _, err := c.store.Recipient(t.Context(), "1"); err == nil || errors.Is(err, store.ErrNoRecipient) {
		t.Errorf("without the view: %v", err)
	}
}

// Subjects of every type that an adopter's table may have, as tokens write
// them; Postgres itself would take 0x5 for 5 and a UUID in other dress.
func TestRecipientOfOtherTypes(t *testing.T) {
	t.Parallel()
	for kind, cases := range map[string]map[string]bool{
		"bigint":      {"5": true, "0x5": false, " 5": false, "5_0": false, "9223372036854775807": false},
		"uuid":        {"7F3A0000-0000-4000-8000-000000000005": true, "7f3a0000-0000-4000-8000-000000000006": false, "x": false},
		"varchar(40)": {"o'hara": true, `"},{\`: true, "O'Hara": false, "o'hara ": false, "{": false, "NULL": true},
	} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			c := setupWith(t, store.Config{Recipients: store.RecipientLookup})
			c.sql(`DROP VIEW notification_gateway.identity;
				CREATE TABLE people (subject %s PRIMARY KEY);
				GRANT SELECT ON people TO notification_gateway_owner;
				CREATE VIEW notification_gateway.identity AS SELECT subject, 5::bigint AS user_key FROM people`, kind)
			for subject, there := range cases {
				if there {
					if _, err := c.conn.Exec(t.Context(), "INSERT INTO people VALUES ($1)", subject); err != nil {
						t.Fatal(err)
					}
				}
			}
			d := store.NewRecipientCache(c.store)
			var found []store.Recipient
			for subject, there := range cases {
				r, err := d.Recipient(t.Context(), subject)
				if there && (err != nil || r.UserKey != "5") || !there && !errors.Is(err, store.ErrNoRecipient) {
					t.Errorf("%q: %+v, %v, want found: %t", subject, r, err, there)
				}
				if err == nil {
					found = append(found, r)
				}
			}
			if gone, _, err := d.Check(t.Context(), found); err != nil || len(gone) > 0 {
				t.Errorf("%+v have become inactive, %v", gone, err)
			}
			c.sql("DELETE FROM people")
			if gone, _, err := d.Check(t.Context(), found); err != nil || len(gone) != len(found) {
				t.Errorf("of %+v only %+v have become inactive, %v", found, gone, err)
			}
		})
	}
}

// Somebody who left, and somebody whose account now belongs to another
// employee, must both lose their streams; nobody else must.
func TestInactive(t *testing.T) {
	t.Parallel()
	c := setupWith(t, store.Config{Recipients: store.RecipientLookup})
	c.sql(`INSERT INTO auth_user (id, username) VALUES (1, 'alice@example.com'), (2, 'bob@example.com'), (3, 'bob@example.com '), (4, 'x');
		UPDATE auth_user SET email = 'bob@example.com' WHERE id IN (3, 4)`)
	d := store.NewRecipientCache(c.store)
	var all []store.Recipient
	for _, subject := range []string{"1", "2", "3", "4"} {
		r, err := d.Recipient(t.Context(), subject)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, r)
	}
	expect := func(subjects ...string) {
		t.Helper()
		gone, _, err := d.Check(t.Context(), all)
		var got []string
		for _, r := range gone {
			got = append(got, r.Subject)
		}
		if err != nil || !slices.Equal(got, subjects) {
			t.Errorf("%v, %v have become inactive, want %v", got, err, subjects)
		}
	}
	expect()
	c.sql("UPDATE employees SET is_active = false WHERE id = 5; UPDATE auth_user SET is_active = false WHERE id = 3")
	expect("1", "3")
	if _, err := d.Recipient(t.Context(), "1"); !errors.Is(err, store.ErrNoRecipient) {
		t.Errorf("an inactive recipient gets in again from memory: %v", err)
	}
	c.sql("UPDATE auth_user SET is_active = true WHERE id = 3; UPDATE employees SET is_active = true WHERE id = 5; UPDATE auth_user SET username = 'alice@example.org', email = 'alice@example.com' WHERE id = 4; UPDATE auth_user SET username = 'old' WHERE id = 1")
	expect("1", "4") // 4 is Alice by now
	c.sql("DROP VIEW notification_gateway.identity")
	if gone, _, err := d.Check(t.Context(), all); err == nil || gone != nil {
		t.Errorf("a broken view ended %v, %v", gone, err)
	}
}

// A look-up that reads the CRM's users one by one would take the CRM down with
// every storm of reconnects. The mapping's function is no black box here: its
// pages count too.
func TestRecipientIsAnsweredByIndex(t *testing.T) {
	t.Parallel()
	c := setupWith(t, store.Config{Recipients: store.RecipientLookup})
	c.sql(`INSERT INTO employees (id, first_name, last_name, email) SELECT 1000 + i, 'f', 'l', i || '@example.net' FROM generate_series(1, 20000) i;
		INSERT INTO auth_user (username, email) SELECT 'u' || i, i || '@example.net' FROM generate_series(1, 20000) i;
		ANALYZE employees, auth_user; SET plan_cache_mode = force_generic_plan; SET jit = off;
		PREPARE one AS SELECT subject::text, user_key::text FROM notification_gateway.identity WHERE subject = $1;
		PREPARE many AS SELECT subject::text, user_key::text FROM notification_gateway.identity WHERE subject = ANY ($1)`)
	for statement, atMost := range map[string]int{"one(12345)": 20, "many('{12345,23,77,19000}')": 80} {
		var plan string
		for range 2 { // the first also reads the catalogs
			if err := c.conn.QueryRow(t.Context(), "EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) EXECUTE "+statement).Scan(&plan); err != nil {
				t.Fatal(err)
			}
		}
		var explained []struct {
			Plan struct {
				Rows float64 `json:"Actual Rows"` // an integer before Postgres 18
				Hit  int     `json:"Shared Hit Blocks"`
				Read int     `json:"Shared Read Blocks"`
			}
		}
		if err := json.Unmarshal([]byte(plan), &explained); err != nil {
			t.Fatal(err)
		}
		p := explained[0].Plan
		if p.Rows < 1 || p.Hit+p.Read > atMost || strings.Contains(plan, "Seq Scan") || !strings.Contains(plan, "auth_user_pkey") {
			t.Errorf("%s: %v rows of %d pages, want at most %d: %s", statement, p.Rows, p.Hit+p.Read, atMost, plan)
		}
		t.Logf("%s: %v rows, %d pages", statement, p.Rows, p.Hit+p.Read)
	}
}

// Where a token names a login, and nobody had set GATEWAY_RECIPIENT, each got the
// stream of the employee with the number of his login. The view identity decides;
// and once it has been there, a view that is missing lets nobody in.
func TestRecipientsAreLookedUpOnceTheViewIsThere(t *testing.T) {
	t.Parallel()
	var log syncBuffer
	c := crmAt(t, storetest.CRM(t))
	c.sql("DROP VIEW notification_gateway.identity; INSERT INTO auth_user (id, username) VALUES (5, 'bob@example.com'), (7, 'bob@example.com ')")
	c.open(store.Config{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	cache := store.NewRecipientCache(c.store)
	var before []store.Recipient
	for _, subject := range []string{"5", "7"} {
		r, err := cache.Recipient(t.Context(), subject)
		if err != nil || r.UserKey != subject {
			t.Fatalf("without the view %s is %+v, %v", subject, r, err)
		}
		before = append(before, r)
	}
	if gone, _, err := cache.Check(t.Context(), before); len(gone) > 0 || err != nil {
		t.Errorf("without the view %+v are inactive, %v", gone, err)
	}
	c.sql(`CREATE VIEW notification_gateway.identity AS SELECT id AS subject, 7::bigint AS user_key FROM auth_user; GRANT SELECT ON notification_gateway.identity TO PUBLIC`)
	reconnect := func() {
		n := c.metric("feed_reconnects_total", "")
		c.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'notification_gateway' AND datname = current_database()")
		eventually(t, "the feed connects again", func() bool { return c.metric("feed_reconnects_total", "") > n && c.feed.Ready() == nil })
	}
	reconnect()
	if r, err := cache.Recipient(t.Context(), "5"); err != nil || r.UserKey != "7" || r.Subject != "5" {
		t.Errorf("with the view 5 is %+v, %v, want 7", r, err)
	}
	if gone, _, err := cache.Check(t.Context(), before); err != nil || len(gone) != 1 || gone[0].Subject != "5" {
		t.Errorf("of the streams from before %+v end, %v, want that of 5", gone, err)
	}
	c.sql("DROP VIEW notification_gateway.identity")
	for range 2 {
		if r, err := c.store.Recipient(t.Context(), "5"); err == nil || errors.Is(err, store.ErrNoRecipient) {
			t.Errorf("when the view is missing 5 is %+v, %v", r, err)
		}
		reconnect()
	}
	for _, line := range []string{"a token's user is the recipient", "recipients are looked up"} {
		if n := strings.Count(log.String(), line); n != 1 {
			t.Errorf("the log says %d times: %s", n, line)
		}
	}
}

// Of two rows for one subject the first that Postgres found was taken, and the
// next time perhaps the other: one person's rows for another.
func TestSeveralRecipientsOfASubjectAreRefused(t *testing.T) {
	t.Parallel()
	var log syncBuffer
	c := setupWith(t, store.Config{Recipients: store.RecipientLookup, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	c.sql(`DROP VIEW notification_gateway.identity; CREATE TABLE who (subject text, user_key text); GRANT SELECT ON who TO PUBLIC;
		CREATE VIEW notification_gateway.identity AS SELECT subject, user_key FROM who; GRANT SELECT ON notification_gateway.identity TO PUBLIC;
		INSERT INTO who VALUES ('one', '5'), ('two', '5'), ('two', '7'), ('twice', '5'), ('twice', '5'), ('none', NULL), ('empty', ''), ('all', '*'), ('some', 'group:x')`)
	if r, err := c.store.Recipient(t.Context(), "one"); err != nil || r.UserKey != "5" {
		t.Fatalf("one is %+v, %v", r, err)
	}
	for _, subject := range []string{"two", "twice", "none", "empty", "all", "some"} {
		r, err := c.store.Recipient(t.Context(), subject)
		if !errors.Is(err, store.ErrNoRecipient) || errors.Is(err, store.ErrSeveralRecipients) != strings.HasPrefix(subject, "tw") {
			t.Errorf("%s is %+v, %v", subject, r, err)
		}
		if _, found := store.FindRecipient(t.Context(), c.url, store.RecipientAuto, subject); !errors.Is(found, store.ErrNoRecipient) {
			t.Errorf("check says of %s: %v", subject, found)
		}
	}
	if n := strings.Count(log.String(), "several rows"); n != 2 || strings.Contains(log.String(), "twice") {
		t.Errorf("the log says %s", log.String())
	}
	c.sql("INSERT INTO who VALUES ('one', '7')")
	cache := store.NewRecipientCache(c.store)
	if gone, _, err := cache.Check(t.Context(), []store.Recipient{{Subject: "one", UserKey: "5"}, {Subject: "none", UserKey: "5"}}); err != nil || len(gone) != 2 {
		t.Errorf("%+v become inactive, %v, want both", gone, err)
	}
}

// syncBuffer takes what several goroutines log.
type syncBuffer struct {
	mu   sync.Mutex
	text strings.Builder // guarded by mu
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}
