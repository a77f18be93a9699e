package workload

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

const (
	maxBulk = 40 // rows of one statement
	columns = "(user_id, notification_type, title, message, metadata, is_read, created_at, updated_at)"
)

// write is one writer: a session that is opened again whenever it breaks.
func (w *Workload) write(ctx context.Context) {
	backoff := backoffMin
	for ctx.Err() == nil {
		committed, _ := w.session(ctx) // the faults are made on purpose, so why it broke does not matter
		if ctx.Err() != nil {
			return
		}
		if committed {
			backoff = backoffMin
		}
		w.count(func(s *Stats) { s.Failures++ })
		sleep(ctx, backoff/2+rand.N(backoff))
		backoff = min(2*backoff, backoffMax)
	}
}

// session writes until ctx ends or the connection breaks.
func (w *Workload) session(ctx context.Context) (committed bool, err error) {
	conn, err := w.connect(ctx)
	if err != nil {
		return false, err
	}
	defer w.close(conn)
	for w.waitTurn(ctx) {
		if err := w.transaction(ctx, conn); err != nil {
			return committed, err
		}
		committed = true
	}
	return committed, nil
}

// transaction is one transaction of a random kind. Its end does not break off
// when ctx ends, only its pauses do.
func (w *Workload) transaction(ctx context.Context, conn *pgx.Conn) error {
	working, cancel := context.WithTimeout(context.WithoutCancel(ctx), statementTimeout+w.config.Pause)
	defer cancel()
	pause := func() { // mostly short, sometimes long
		f := rand.Float64()
		sleep(ctx, time.Duration(f*f*f*float64(w.config.Pause)))
	}
	tx, err := conn.Begin(working)
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	var numbers []int64 // what a COMMIT will bring
	insert := func(n int) error {
		added, err := w.insert(working, tx, w.config.Users, n)
		numbers = append(numbers, added...)
		return err
	}
	kinds := 10
	if w.config.Changes {
		kinds = 18
	}
	back := false
	changed := 0
	alter := func(kind change, most int) {
		if err == nil {
			var n int
			n, err = w.change(working, tx, kind, most)
			changed += n
		}
	}
	switch rand.IntN(kinds) {
	case 0, 1, 2:
		err = insert(1)
	case 3: // commits late: others that began after it are done before
		err = insert(1)
		pause()
	case 4:
		pause()
		err = insert(1 + rand.IntN(3))
		pause()
	case 5:
		err = w.nest(working, tx, insert, &numbers, pause)
	case 6: // the CRM changes its mind
		err = insert(1 + rand.IntN(3))
		pause()
		back = true
	case 7:
		err = insert(1 + rand.IntN(maxBulk))
	case 8:
		numbers, err = w.copy(working, conn, 1+rand.IntN(maxBulk))
	case 9: // a CRM that does not wait for the disk
		if _, err = tx.Exec(working, "SET LOCAL synchronous_commit = off"); err == nil {
			err = insert(1)
		}
	case 10, 11:
		alter(markRead, 1+rand.IntN(3))
	case 12:
		alter(markUnread, 1+rand.IntN(3))
	case 13:
		alter(remove, 1)
	case 14: // as "mark all as read" does: more than the gateway reports one by one
		alter(markRead, maxMarked)
	case 15: // commits late
		alter(markRead, 1)
		pause()
		alter(remove, 1)
	case 16: // a new row changes before anybody has seen it
		err = insert(1 + rand.IntN(3))
		alter(markRead, 1)
		alter(remove, 1)
	case 17: // the CRM changes its mind
		alter(markRead, 1+rand.IntN(maxMarked))
		alter(remove, 1)
		pause()
		back = true
	}
	switch {
	case err != nil:
		return err
	case back:
		w.count(func(s *Stats) { s.RolledBack += len(numbers) })
		return tx.Rollback(working)
	}
	if err := tx.Commit(working); err != nil {
		w.doubt(numbers)
		return fmt.Errorf("commit: %w", err)
	}
	w.acknowledge(numbers)
	w.count(func(s *Stats) { s.Changed += changed })
	return nil
}

// nest inserts around and inside savepoints, of which it takes some back.
func (w *Workload) nest(ctx context.Context, tx pgx.Tx, insert func(int) error, numbers *[]int64, pause func()) error {
	if err := insert(1); err != nil {
		return err
	}
	for range 1 + rand.IntN(3) {
		if _, err := tx.Exec(ctx, "SAVEPOINT s"); err != nil {
			return fmt.Errorf("savepoint: %w", err)
		}
		before := len(*numbers)
		if err := insert(1 + rand.IntN(2)); err != nil {
			return err
		}
		pause()
		end := "RELEASE SAVEPOINT s"
		if rand.IntN(2) == 0 {
			end = "ROLLBACK TO SAVEPOINT s"
			w.count(func(s *Stats) { s.RolledBack += len(*numbers) - before })
			*numbers = (*numbers)[:before]
		}
		if _, err := tx.Exec(ctx, end); err != nil {
			return fmt.Errorf("end a savepoint: %w", err)
		}
	}
	return insert(1)
}

// newNumbers returns n numbers that no row has yet.
func (w *Workload) newNumbers(n int) []int64 {
	w.spend(n - 1) // the turn was for one
	first := w.last.Add(int64(n)) - int64(n) + 1
	numbers := make([]int64, n)
	for i := range numbers {
		numbers[i] = first + int64(i)
	}
	return numbers
}

// execer is a connection, or a transaction on it.
type execer interface {
	Exec(ctx context.Context, statement string, args ...any) (pgconn.CommandTag, error)
}

// insert inserts n rows with one statement, for users in turn. Every column is
// given, because an application that has its defaults in its own code, as
// Django does, leaves none to the table.
func (w *Workload) insert(ctx context.Context, db execer, users []int64, n int) ([]int64, error) {
	numbers := w.newNumbers(n)
	_, err := db.Exec(ctx, "INSERT INTO "+w.table+" "+columns+` SELECT ($1::bigint[])[1 + n % cardinality($1::bigint[])],
		(ARRAY['check_loss','task_assignment','lead_assignment','task_reminder'])[1 + n % 4], $2::text || n,
		repeat('ä "quoted" line' || chr(10), 1 + (n % 7)::int), '{}', false, now(), now()
		FROM generate_series($3::bigint, $4::bigint) n`,
		users, w.marker, numbers[0], numbers[n-1])
	if err != nil {
		return nil, fmt.Errorf("insert: %w", err)
	}
	return numbers, nil
}

// copy brings n rows in with COPY, in its text form.
func (w *Workload) copy(ctx context.Context, conn *pgx.Conn, n int) ([]int64, error) {
	numbers := w.newNumbers(n)
	var lines strings.Builder
	for _, number := range numbers {
		user := w.config.Users[rand.IntN(len(w.config.Users))]
		fmt.Fprintf(&lines, "%d\tcheck_loss\t%s%d\tcopied\\nin\t{}\tf\tnow\tnow\n", user, w.marker, number)
	}
	_, err := conn.PgConn().CopyFrom(ctx, strings.NewReader(lines.String()), "COPY "+w.table+" "+columns+" FROM STDIN")
	if err != nil {
		return nil, fmt.Errorf("copy: %w", err)
	}
	return numbers, nil
}

// waitTurn waits until the rate allows another transaction, which is taken for one
// of a single row; false when ctx ended before.
func (w *Workload) waitTurn(ctx context.Context) bool {
	if w.config.Rate <= 0 {
		return ctx.Err() == nil
	}
	w.mu.Lock()
	now := time.Now()
	if w.next.Before(now) {
		w.next = now
	}
	at := w.next
	w.mu.Unlock()
	w.spend(1)
	return sleep(ctx, time.Until(at))
}

// spend puts the next transaction off by what n rows cost.
func (w *Workload) spend(n int) {
	if w.config.Rate <= 0 {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.next = w.next.Add(time.Duration(float64(n) / w.config.Rate * float64(time.Second)))
}
