package main

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/seed-64e334f9/notification-gateway/sql"
	"github.com/seed-64e334f9/notification-gateway/store/schema"
	"github.com/seed-64e334f9/notification-gateway/store/storetest"
	"github.com/seed-64e334f9/notification-gateway/store/throwaway"
)

// outage is a gateway with a role of its own that reaches its Postgres by a path.
type outage struct {
	*testing.T
	server   *throwaway.Server // its address is a superuser's
	database string            // address of the database, as a superuser
	role     string
	path     *path
	crm      *throwaway.DB
	gateway  *instance
	token    string
}

// on runs statements in another database than the CRM's.
func (o *outage) on(address, statement string) {
	o.Helper()
	db, err := throwaway.Open(o.Context(), address)
	if err != nil {
		o.Fatal(err)
	}
	defer db.Close()
	if err := db.Exec(o.Context(), statement); err != nil {
		o.Fatal(err)
	}
}

func (o *outage) sql(format string, args ...any) {
	o.Helper()
	if err := o.crm.Exec(o.Context(), fmt.Sprintf(format, args...)); err != nil {
		o.Fatal(err)
	}
}

// cut ends the gateway's connections.
func (o *outage) cut() {
	o.Helper()
	o.on(o.server.URL, fmt.Sprintf("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '%s'", o.role))
}

func (o *outage) name() string {
	u, err := url.Parse(o.database)
	if err != nil {
		o.Fatal(err)
	}
	return strings.TrimPrefix(u.Path, "/")
}

// fault is something that happens to Postgres.
type fault struct {
	begin, end func(*outage)
	says       string // what /readyz must say of it
	write      bool   // rows can be inserted meanwhile
	foreign    bool   // what was missed cannot be known, and is told with a reset
	keeps      bool   // the connections are good and must be kept
}

func faults() map[string]fault {
	return map[string]fault{
		"connections are refused": {
			begin: func(o *outage) { o.path.refuse() },
			end:   func(o *outage) { o.path.accept(o.T) },
			says:  "connection refused", write: true,
		},
		"it answers slower than can be waited for": {
			begin: func(o *outage) { o.path.delay.Store(int64(20 * time.Second)) },
			end:   func(o *outage) { o.path.delay.Store(0) },
			says:  "does not answer", write: true,
		},
		"the role may only read": {
			begin: func(o *outage) { o.sql("ALTER ROLE %s SET default_transaction_read_only = on", o.role); o.cut() },
			end:   func(o *outage) { o.sql("ALTER ROLE %s RESET default_transaction_read_only", o.role) },
			says:  "default_transaction_read_only", write: true,
		},
		"the role may have no more connections": {
			begin: func(o *outage) { o.sql("ALTER ROLE %s CONNECTION LIMIT 0", o.role); o.cut() },
			end:   func(o *outage) { o.sql("ALTER ROLE %s CONNECTION LIMIT -1", o.role) },
			says:  "too many connections", write: true,
		},
		"the grants are gone": {
			begin: func(o *outage) { o.sql("REVOKE USAGE ON SCHEMA notification_gateway FROM %s", o.role) },
			end:   func(o *outage) { o.sql("GRANT USAGE ON SCHEMA notification_gateway TO %s", o.role) },
			says:  "--grant-to", write: true,
		},
		"the database is renamed": {
			begin: func(o *outage) {
				o.crm.Close()
				o.on(o.server.URL, fmt.Sprintf("ALTER DATABASE %s ALLOW_CONNECTIONS false", o.name()))
				o.cut()
				o.on(o.server.URL, fmt.Sprintf("ALTER DATABASE %[1]s RENAME TO %[1]s_", o.name()))
			},
			end: func(o *outage) {
				o.on(o.server.URL, fmt.Sprintf("ALTER DATABASE %[1]s_ RENAME TO %[1]s", o.name()))
				o.on(o.server.URL, fmt.Sprintf("ALTER DATABASE %s ALLOW_CONNECTIONS true", o.name()))
				o.crm = open(o, o.database)
			},
			says: "not exist",
		},
		"the objects are dropped and made again": {
			begin: func(o *outage) { o.sql("DROP SCHEMA notification_gateway CASCADE") },
			end: func(o *outage) {
				if _, err := schema.Migrate(o.Context(), o.database, schema.MigrateOptions{Mapping: sql.MappingReferenceCRM, GrantTo: o.role}); err != nil {
					o.Fatal(err)
				}
				if _, err := schema.Attach(o.Context(), o.database, schema.AttachOptions{Table: "notifications", UserColumns: []string{"user_id"}, IDColumn: "id"}); err != nil {
					o.Fatal(err)
				}
			},
			says: "gateway migrate", write: true, foreign: true,
		},
		"the view is broken": {
			begin: func(o *outage) {
				o.sql("ALTER VIEW notification_gateway.feed RENAME TO away")
			},
			end: func(o *outage) {
				o.sql("ALTER VIEW notification_gateway.away RENAME TO feed")
			},
			says: "notification_gateway.feed", write: true, keeps: true,
		},
	}
}

// Whatever Postgres does, the process lives and does not spin, says what is
// wrong, keeps the streams it has and those that come back meanwhile, and
// brings everything afterwards.
func TestOutages(t *testing.T) {
	environment(t, storetest.CRM(t)) // each gateway has its own
	t.Setenv("GATEWAY_PING_INTERVAL", "1s")
	token := mint(t, "5")
	var starting sync.Mutex // the environment is the process's
	for name, f := range faults() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := &outage{T: t, server: storetest.Server(t), token: token, role: fmt.Sprintf("gateway_%016x", rand.Uint64())}
			o.makeRole()
			o.database = storetest.CRM(t)
			o.start(&starting)
			o.suffer(f)
		})
	}
}

// makeRole makes the gateway's role. It comes before the database, and so goes
// after it: a role that has rights somewhere cannot be dropped.
func (o *outage) makeRole() {
	o.on(o.server.URL, "CREATE ROLE "+o.role+" LOGIN PASSWORD 'old'")
	o.Cleanup(func() {
		db, err := throwaway.Open(context.Background(), o.server.URL)
		if err != nil {
			o.Fatal(err)
		}
		defer db.Close()
		if err := db.Exec(context.Background(), "DROP ROLE "+o.role); err != nil {
			o.Error(err)
		}
	})
}

// start starts the gateway with the role, by the path.
func (o *outage) start(starting *sync.Mutex) {
	if _, err := schema.Migrate(o.Context(), o.database, schema.MigrateOptions{GrantTo: o.role}); err != nil {
		o.Fatal(err)
	}
	o.crm = open(o, o.database)
	u, err := url.Parse(o.database)
	if err != nil {
		o.Fatal(err)
	}
	o.path = newPath(o.T, u.Host)
	u.Host, u.User = o.path.listener.Addr().String(), url.UserPassword(o.role, "old")
	starting.Lock()
	defer starting.Unlock()
	os.Setenv("DATABASE_URL", u.String())
	o.gateway = serveInTest(o)
	o.gateway.readyz(o, 200)
}

// suffer has the gateway go through a fault.
func (o *outage) suffer(f fault) {
	o.Helper()
	live := o.follow("")
	insertRow(o, o.crm, "before")
	live.untilTitle(o.T, "before")
	live.mu.Lock()
	away := live.lastID
	live.mu.Unlock()
	insertRow(o, o.crm, "missed")
	live.untilTitle(o.T, "missed")

	f.begin(o)
	if f.write {
		insertRow(o, o.crm, "meanwhile")
	}
	o.gateway.readyz(o, 503)
	back := o.follow(away) // one who comes back now
	made, lines, began := o.path.made.Load(), strings.Count(o.gateway.log.String(), "\n"), time.Now()
	live.untilPings(o.T, 2)
	back.untilPings(o.T, 2)
	took := time.Since(began)
	made, lines = o.path.made.Load()-made, strings.Count(o.gateway.log.String(), "\n")-lines
	body := o.gateway.readyz(o, 503)
	o.Logf("%d connections and %d lines in %v; readyz says %s", made, lines, took.Round(time.Millisecond), body)
	if !strings.Contains(body, f.says) {
		o.Errorf("readyz says %s, want %q", body, f.says)
	}
	if most := 6 + 3*int64(took.Seconds()+1); made > most || int64(lines) > most || f.keeps && made > 0 {
		o.Errorf("%d connections and %d lines in %v are too many", made, lines, took)
	}

	f.end(o)
	o.gateway.readyz(o, 200)
	if f.foreign {
		live.until(o.T, "reset", func() bool { return len(live.resets) > 0 })
		back.until(o.T, "reset", func() bool { return len(back.resets) > 0 })
	}
	insertRow(o, o.crm, "after")
	live.untilTitle(o.T, "after")
	back.untilTitle(o.T, "after")
	for who, w := range map[string]*follower{"live": live, "back": back} {
		w.mu.Lock()
		if !f.foreign && (!w.titles["missed"] || f.write && !w.titles["meanwhile"] || len(w.resets) > 0) || w.ended != "" {
			o.Errorf("%s has %v, resets %v, ended%s", who, w.titles, w.resets, w.ended)
		}
		w.mu.Unlock()
	}
	resp, err := http.Get(o.gateway.admin + "/livez")
	if err != nil {
		o.Fatal(err)
	}
	io.Copy(io.Discard, resp.Body)
	resp.Body.Close()
	if o.Failed() {
		o.Logf("the log:\n%s", o.gateway.log)
	}
}

// A connection that is ended again and again, as by a pooler or an operator's
// script, must not be made again as fast as it is ended.
func TestTerminatedAgainAndAgain(t *testing.T) {
	environment(t, storetest.CRM(t))
	t.Setenv("GATEWAY_PING_INTERVAL", "1s")
	t.Setenv("GATEWAY_STREAM_BUFFER", "10000000") // what piles up while it is disconnected comes at once
	o := &outage{T: t, server: storetest.Server(t), token: mint(t, "5"), role: fmt.Sprintf("gateway_%016x", rand.Uint64())}
	o.makeRole()
	o.database = storetest.CRM(t)
	o.start(&sync.Mutex{})
	live := o.follow("")
	live.until(t, "connected", func() bool { return live.lastID != "" })
	made, lines, began := o.path.made.Load(), strings.Count(o.gateway.log.String(), "\n"), time.Now()
	rows := 0
	for until := began.Add(3 * time.Second); time.Now().Before(until); rows++ {
		o.gateway.readyz(t, 200) // it has come as far as to poll
		o.cut()
		o.gateway.readyz(t, 503)
		insertRow(t, o.crm, fmt.Sprint("row ", rows))
	}
	took := time.Since(began)
	made, lines = o.path.made.Load()-made, strings.Count(o.gateway.log.String(), "\n")-lines
	t.Logf("%d terminations, %d connections and %d lines in %v", rows, made, lines, took.Round(time.Millisecond))
	if most := 4 * int64(took.Seconds()+1); made > most || int64(lines) > 2*most {
		t.Errorf("%d connections and %d lines in %v are too many", made, lines, took)
	}
	o.gateway.readyz(t, 200)
	for row := range rows {
		live.untilTitle(t, fmt.Sprint("row ", row))
	}
}
