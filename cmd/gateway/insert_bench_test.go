package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/seed-64e334f9/notification-gateway/store/storetest"
	"github.com/seed-64e334f9/notification-gateway/store/throwaway"
)

// insertWay is one way of inserting that BenchmarkInsert compares.
type insertWay struct {
	name          string
	before, after string // statements around it
	stream        bool   // somebody is connected and gets every row
}

// insertWays need a gateway that runs. Whoever holds a slot of the doorbell
// exclusively makes every writer ring, as a plain NOTIFY trigger does.
var insertWays = []insertWay{
	{"plain", "ALTER TABLE notifications DISABLE TRIGGER notification_gateway_capture", "ALTER TABLE notifications ENABLE ALWAYS TRIGGER notification_gateway_capture", false},
	{"trigger", "SELECT", "SELECT", false},
	{"always-notify", "SELECT pg_advisory_lock(1734440037, 8)", "SELECT pg_advisory_unlock(1734440037, 8)", false},
	{"delivered", "SELECT", "SELECT", true},
}

// BenchmarkInsert measures what the trigger costs the CRM: single-row
// transactions of 1, 8 and 32 writers, without the trigger; with it and a
// gateway to which nobody is connected; the same where every transaction
// notifies; and with a stream that gets every row. Each is given as a share of
// the first, the median of five rounds in which all take turns. A flush to disk
// of 1 ms is emulated with commit_delay
// (https://www.postgresql.org/docs/current/runtime-config-wal.html#GUC-COMMIT-DELAY).
func BenchmarkInsert(b *testing.B) {
	if os.Getenv("DATABASE_URL") != "" {
		b.Skip("changes settings of the whole server, so not on the one that DATABASE_URL names")
	}
	url := storetest.CRM(b)
	environment(b, url)
	db := open(b, url)
	g := serveInTest(b)
	g.readyz(b, 200)
	for _, flush := range []int{0, 1000} {
		for _, statement := range []string{
			fmt.Sprintf("ALTER SYSTEM SET fsync = %t", flush > 0),
			fmt.Sprintf("ALTER SYSTEM SET commit_delay = %d", flush), "ALTER SYSTEM SET commit_siblings = 0", "SELECT pg_reload_conf()",
		} {
			if err := db.Exec(b.Context(), statement); err != nil {
				b.Fatal(err)
			}
		}
		for _, writers := range []int{1, 8, 32} {
			b.Run(fmt.Sprintf("flush=%dms/writers=%d", flush/1000, writers), func(b *testing.B) {
				for b.Loop() {
					rates := make([][]float64, len(insertWays))
					for range 5 {
						for i, way := range insertWays {
							rates[i] = append(rates[i], insertRate(b, g, db, url, way, writers))
						}
					}
					for i, way := range insertWays {
						slices.Sort(rates[i])
						if median := rates[i][2]; i == 0 {
							b.ReportMetric(median, "plain-rows/s")
						} else {
							b.ReportMetric(100*median/rates[0][2], way.name+"-%")
						}
					}
				}
			})
		}
	}
}

// insertRate inserts for a while and returns rows a second.
func insertRate(b *testing.B, g *instance, db *throwaway.DB, url string, way insertWay, writers int) float64 {
	b.Helper()
	const period = 500 * time.Millisecond
	exec := func(db *throwaway.DB, statement string, args ...any) {
		if err := db.Exec(context.Background(), statement, args...); err != nil {
			b.Error(err)
		}
	}
	exec(db, "TRUNCATE notifications")
	if way.stream {
		ctx, cancel := context.WithCancel(b.Context())
		defer cancel()
		lines := g.streamUntil(ctx, b, mint(b, "5"), "")
		until(b, lines, "Connected")
		go func() {
			for lines.Scan() {
			}
		}()
	}
	pools := make([]*throwaway.DB, writers)
	for i := range pools {
		pools[i] = open(b, url)
		exec(pools[i], "SELECT 1")
	}
	exec(pools[0], way.before)
	defer exec(pools[0], way.after)
	var rows atomic.Int64
	began := time.Now()
	var running sync.WaitGroup
	for _, pool := range pools {
		running.Go(func() {
			for time.Since(began) < period {
				exec(pool, benchInsert, "row")
				rows.Add(1)
			}
		})
	}
	running.Wait()
	rate := float64(rows.Load()) / time.Since(began).Seconds()
	for _, pool := range pools[1:] {
		pool.Close()
	}
	return rate
}
