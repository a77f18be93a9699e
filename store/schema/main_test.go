package schema_test

import (
	"context"
	"fmt"
	"os"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/seed-64e334f9/notification-gateway/store/schema"
	"github.com/seed-64e334f9/notification-gateway/store/storetest"
)

func TestMain(m *testing.M) { os.Exit(storetest.Main(m)) }

// crm is the database of a CRM on which no gateway runs.
type crm struct {
	*testing.T
	url  string
	conn *pgx.Conn
}

func setup(t *testing.T) *crm {
	t.Helper()
	return crmAt(t, storetest.CRM(t))
}

func crmAt(t *testing.T, url string) *crm {
	t.Helper()
	c := &crm{T: t, url: url}
	c.conn = c.connect()
	return c
}

func (c *crm) connect() *pgx.Conn {
	c.Helper()
	conn, err := pgx.Connect(c.Context(), c.url)
	if err != nil {
		c.Fatal(err)
	}
	c.Cleanup(func() { conn.Close(context.Background()) })
	return conn
}

func (c *crm) sql(format string, args ...any) {
	c.Helper()
	c.on(c.conn, format, args...)
}

func (c *crm) on(conn *pgx.Conn, format string, args ...any) {
	c.Helper()
	if _, err := conn.PgConn().Exec(c.Context(), fmt.Sprintf(format, args...)).ReadAll(); err != nil {
		c.Fatal(err)
	}
}

// as makes a role without rights and returns the URL of the database for it.
func (c *crm) as(role string) string {
	c.Helper()
	return storetest.Role(c.T, c.url, role)
}

// finding returns what the doctor says of one thing where recipients are
// looked up.
func (c *crm) finding(name string) schema.Finding {
	c.Helper()
	return c.findingOf(schema.CheckOptions{URL: c.url, Lookup: true}, name)
}

func (c *crm) findingOf(options schema.CheckOptions, name string) schema.Finding {
	c.Helper()
	for _, f := range schema.Check(c.Context(), options) {
		if f.Name == name {
			return f
		}
	}
	c.Fatalf("there is no finding %s", name)
	return schema.Finding{}
}

// granted gives a role of as what the gateway's run-time role has.
func granted(t *testing.T, c *crm, role string) {
	t.Helper()
	if _, err := schema.Migrate(t.Context(), c.url, schema.MigrateOptions{GrantTo: "gateway_test_" + role}); err != nil {
		t.Fatal(err)
	}
}
