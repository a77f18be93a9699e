// Package storetest gives every test a Postgres database of its own, on a
// server that the test binary starts once. NOTIFY channels belong to a
// database, so tests may run side by side.
package storetest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/url"
	"os"
	"sync"
	"testing"

	"github.com/seed-64e334f9/notification-gateway/sql"
	"github.com/seed-64e334f9/notification-gateway/store/schema"
	"github.com/seed-64e334f9/notification-gateway/store/throwaway"
)

// shared is the server of this test binary: TestMain, which stops it, and the
// tests, which start it, have nothing else in common.
var shared struct {
	sync.Mutex
	server   *throwaway.Server
	err      error
	template string // database with the reference CRM, "" until the first CRM
}

// Main runs a package's tests and stops the server after them: call it from
// TestMain. It starts nothing by itself.
func Main(m *testing.M) int {
	// What psql is to do on this machine, no test may do.
	for _, name := range []string{"PGOPTIONS", "PGSERVICE", "PGSERVICEFILE", "PGTZ", "PGAPPNAME", "PGTARGETSESSIONATTRS", "PGCONNECT_TIMEOUT"} {
		if err := os.Unsetenv(name); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	code := m.Run()
	shared.Lock()
	defer shared.Unlock()
	if shared.server == nil {
		return code
	}
	if shared.template != "" {
		if err := shared.server.DropDatabase(context.Background(), shared.template); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = max(code, 1)
		}
	}
	if err := shared.server.Stop(); err != nil {
		fmt.Fprintln(os.Stderr, "stop Postgres:", err)
		code = max(code, 1)
	}
	return code
}

// Server returns the server of this test binary. Without a Postgres the test
// is skipped, or fails where one is required, see throwaway.Required.
func Server(tb testing.TB) *throwaway.Server {
	tb.Helper()
	shared.Lock()
	defer shared.Unlock()
	if shared.server == nil && shared.err == nil {
		shared.server, shared.err = throwaway.Start(context.Background(), func(format string, args ...any) {
			fmt.Fprintf(os.Stderr, format+"\n", args...)
		})
	}
	if shared.err != nil {
		if throwaway.Required() {
			tb.Fatal(shared.err)
		}
		tb.Skip(shared.err)
	}
	return shared.server
}

// Database returns the URL of a new, empty database, which is dropped when the
// test ends.
func Database(tb testing.TB) string { return database(tb, "") }

// CRM returns the URL of a new database that holds the reference CRM with the
// gateway's objects, its mapping and the trigger, and the employees 5 (Alice)
// and 7 (Bob).
func CRM(tb testing.TB) string {
	tb.Helper()
	server := Server(tb)
	shared.Lock()
	template := shared.template
	if template == "" {
		template = name("template")
		if _, err := makeCRM(tb.Context(), server, template); err != nil {
			shared.Unlock()
			tb.Fatal(err)
		}
		shared.template = template
	}
	shared.Unlock()
	return database(tb, template)
}

// OwnCRM is CRM on a server of the test's own, which it may crash, copy and
// fail over. It runs from local binaries.
func OwnCRM(tb testing.TB) (*throwaway.Server, string) {
	tb.Helper()
	server, err := throwaway.StartLocal(context.Background())
	if err != nil {
		if os.Getenv("CI") == "true" {
			tb.Fatal(err)
		}
		tb.Skip(err)
	}
	tb.Cleanup(func() {
		if err := server.Stop(); err != nil {
			tb.Error(err)
		}
	})
	url, err := makeCRM(tb.Context(), server, "crm")
	if err != nil {
		tb.Fatal(err)
	}
	return server, url
}

// Role makes a role gateway_test_NAME without rights, which goes with the test,
// and returns at, the URL of a database, for that role.
func Role(tb testing.TB, at, name string) string {
	tb.Helper()
	role := "gateway_test_" + name
	run := func(ctx context.Context, format string) {
		db, err := throwaway.Open(ctx, at)
		if err == nil {
			err = db.Exec(ctx, fmt.Sprintf(format, role))
			db.Close()
		}
		if err != nil {
			tb.Error(err)
		}
	}
	run(tb.Context(), "DROP ROLE IF EXISTS %[1]q; CREATE ROLE %[1]q LOGIN")
	tb.Cleanup(func() { run(context.Background(), "DROP OWNED BY %[1]q CASCADE; DROP ROLE %[1]q") }) // roles are the cluster's and outlive the database
	u, err := url.Parse(at)
	if err != nil {
		tb.Fatal(err)
	}
	u.User = url.User(role)
	return u.String()
}

func database(tb testing.TB, template string) string {
	tb.Helper()
	server := Server(tb)
	n := name("test")
	url, err := server.CreateDatabase(tb.Context(), n, template)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := server.DropDatabase(context.Background(), n); err != nil {
			tb.Error(err)
		}
	})
	return url
}

func makeCRM(ctx context.Context, server *throwaway.Server, name string) (string, error) {
	url, err := server.CreateDatabase(ctx, name, "")
	if err != nil {
		return "", err
	}
	db, err := throwaway.Open(ctx, url)
	if err != nil {
		return "", err
	}
	defer db.Close()
	if err := db.Exec(ctx, sql.ReferenceCRM); err != nil {
		return "", fmt.Errorf("load the reference CRM: %w", err)
	}
	if err := db.Exec(ctx, `INSERT INTO employees (id, first_name, last_name, email) VALUES
		(5, 'Alice', 'Archer', 'alice@example.com'), (7, 'Bob', 'Baker', 'bob@example.com')`); err != nil {
		return "", fmt.Errorf("load people: %w", err)
	}
	if _, err := schema.Migrate(ctx, url, schema.MigrateOptions{Mapping: sql.MappingReferenceCRM}); err != nil {
		return "", fmt.Errorf("migrate: %w", err)
	}
	_, err = schema.Attach(ctx, url, schema.AttachOptions{Table: "public.notifications", UserColumns: []string{"user_id"}, IDColumn: "id"})
	return url, err
}

func name(kind string) string {
	return fmt.Sprintf("notification_gateway_%s_%016x", kind, rand.Uint64())
}
