// Package workload is the CRM's side as a load: sessions that insert
// notifications as careless applications do (delays, savepoints, rollbacks,
// bulk inserts, COPY), that survive whatever happens to the server, and that
// remember what COMMIT acknowledged. It knows the CRM's table and nothing of
// the gateway's objects, so that it can bear witness against them.
package workload

import (
	"context"
	"crypto/rand"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/seed-64e334f9/notification-gateway/store/internal/pg"
)

const (
	connectTimeout   = 5 * time.Second
	statementTimeout = 30 * time.Second // for one transaction without its own pauses, however the server is
	backoffMin       = 50 * time.Millisecond
	backoffMax       = time.Second
	finishPause      = 20 * time.Millisecond
)

// Config is what a Workload needs.
type Config struct {
	URL     string        // Postgres
	Table   string        // with the reference CRM's columns, named as SQL names it
	Users   []int64       // recipients, who must exist; at least one
	Writers int           // sessions that write at the same time
	Rate    float64       // rows a second that all together may write; zero: no limit
	Pause   time.Duration // the longest that a transaction stays open without doing anything
	Changes bool          // also mark rows as read and unread, and delete them
}

// Workload writes rows that bear a mark of its own, each with a number.
type Workload struct {
	config Config
	pgx    *pgx.ConnConfig
	table  string // quoted
	marker string // what every title begins with
	last   atomic.Int64

	mu           sync.Mutex
	acknowledged map[int64]time.Time // by number; guarded by mu
	ambiguous    map[int64]struct{}  // numbers whose COMMIT was not answered; guarded by mu
	deleted      map[int64]struct{}  // numbers that a transaction has tried to delete; guarded by mu
	stats        Stats               // guarded by mu
	next         time.Time           // when the rate allows the next row; guarded by mu
}

// Stats is what happened to the writers.
type Stats struct {
	Acknowledged int // rows whose COMMIT was acknowledged
	RolledBack   int // rows that were taken back on purpose
	Changed      int // rows that were marked as read or unread, or deleted
	Ambiguous    int // transactions whose COMMIT was not answered: the table says what became of them
	Failures     int // sessions that broke
}

// Row is a row of this load as the CRM's table holds it.
type Row struct {
	ID, User, Number int64
	Unread           bool
}

// New connects once and sees that the table takes rows for every user.
func New(ctx context.Context, config Config) (*Workload, error) {
	parsed, _, err := pg.ParseURL(config.URL)
	if err != nil {
		return nil, err
	}
	mark := "check-loss " + rand.Text()[:10]
	parsed.ConnectTimeout = connectTimeout
	parsed.DefaultQueryExecMode = pgx.QueryExecModeExec
	parsed.RuntimeParams["application_name"] = mark
	w := &Workload{config: config, pgx: parsed, marker: mark + " ", acknowledged: map[int64]time.Time{}, ambiguous: map[int64]struct{}{}, deleted: map[int64]struct{}{}}
	conn, err := w.connect(ctx)
	if err != nil {
		return nil, err
	}
	defer w.close(conn)
	// Qualified, because some statements run under another search_path.
	if err := conn.QueryRow(ctx, `SELECT format('%I.%I', n.nspname, c.relname) FROM pg_class c
		JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = $1::text::regclass`, config.Table).Scan(&w.table); err != nil {
		return nil, fmt.Errorf("find the table %s: %w", config.Table, err)
	}
	tx, err := conn.Begin(ctx)
	if err != nil {
		return nil, fmt.Errorf("begin: %w", err)
	}
	defer tx.Rollback(ctx) // these rows are only a try
	if _, err := tx.Exec(ctx, "SET CONSTRAINTS ALL IMMEDIATE"); err != nil {
		return nil, fmt.Errorf("check constraints at once: %w", err)
	}
	for _, user := range config.Users {
		if _, err := w.insert(ctx, tx, []int64{user}, 1); err != nil {
			return nil, fmt.Errorf("try a row for user %d: %w", user, err)
		}
	}
	if config.Changes {
		for _, kind := range []change{markRead, remove} {
			if _, err := w.change(ctx, tx, kind, 1); err != nil {
				return nil, fmt.Errorf("try a change: %w", err)
			}
		}
		clear(w.deleted)
	}
	return w, nil
}

// Run writes until ctx ends: then every session finishes what it has begun.
func (w *Workload) Run(ctx context.Context) {
	var writing sync.WaitGroup
	for range w.config.Writers {
		writing.Go(func() { w.write(ctx) })
	}
	writing.Wait()
}

// Number returns the number of the row that has this title, if it is ours.
func (w *Workload) Number(title string) (int64, bool) {
	rest, ours := strings.CutPrefix(title, w.marker)
	if !ours {
		return 0, false
	}
	n, err := strconv.ParseInt(rest, 10, 64)
	return n, err == nil
}

// Acknowledged returns a copy of when COMMIT was acknowledged, by number.
func (w *Workload) Acknowledged() map[int64]time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	all := make(map[int64]time.Time, len(w.acknowledged))
	for number, at := range w.acknowledged {
		all[number] = at
	}
	return all
}

// Explained reports whether the CRM itself accounts for a row that was there once
// and is not any more: a transaction that was acknowledged or may have been
// committed inserted it, and another one deleted it or the server lost it.
func (w *Workload) Explained(number int64) (inserted, deleted bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	_, acknowledged := w.acknowledged[number]
	_, ambiguous := w.ambiguous[number]
	_, deleted = w.deleted[number]
	return acknowledged || ambiguous, deleted
}

// Stats returns what happened so far.
func (w *Workload) Stats() Stats {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.stats
}

func (w *Workload) count(f func(*Stats)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f(&w.stats)
}

// acknowledge notes what a COMMIT that has just been answered brought.
func (w *Workload) acknowledge(numbers []int64) {
	now := time.Now()
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, n := range numbers {
		w.acknowledged[n] = now
	}
	w.stats.Acknowledged += len(numbers)
}

// doubt notes rows whose COMMIT was not answered.
func (w *Workload) doubt(numbers []int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, n := range numbers {
		w.ambiguous[n] = struct{}{}
	}
	w.stats.Ambiguous++
}

func (w *Workload) connect(ctx context.Context) (*pgx.Conn, error) {
	conn, err := pgx.ConnectConfig(ctx, w.pgx)
	if err != nil {
		return nil, fmt.Errorf("connect: %w", pg.ConnectCause(err))
	}
	return conn, nil
}

func (w *Workload) close(conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	conn.Close(ctx) // it may be dead already
}

// sleep returns early, with false, when ctx ends.
func sleep(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
