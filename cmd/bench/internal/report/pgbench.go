package report

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"sync"

	"github.com/seed-64e334f9/notification-gateway/store/throwaway"
)

const pgbenchUsers = 100 // recipients, at random: one for all would make its row the bottleneck

// sending is how a CRM sends an INSERT. The less the server has to do for a plain
// one, the more the trigger weighs beside it.
type sending struct{ name, protocol, sql string }

var (
	// asDjango is what Notification.objects.create() sends: each column, the values in
	// the statement, so that it is parsed and planned each time
	// (https://docs.djangoproject.com/en/stable/ref/databases/#server-side-parameters-binding).
	asDjango = sending{"", "simple", `INSERT INTO "notifications" ("user_id", "notification_type", "title", "message", "lead_id", "task_id", "reminder_id", "metadata",
 "is_read", "read_at", "created_at", "updated_at") VALUES (:user, 'task_assignment', 'Task Assigned: Complete project',
 'Task "Complete project" has been assigned to you.', NULL, 123, NULL, '{"priority": "high", "due_date": "2024-01-15", "due_time": "17:00:00", "status": "to_do"}'::jsonb,
 false, NULL, '2024-01-10T10:30:00+00:00'::timestamptz, '2024-01-10T10:30:00+00:00'::timestamptz) RETURNING "notifications"."id"`}
	// asPrepared is as little as an INSERT can be.
	asPrepared = sending{"prepared statements, ", "prepared", `INSERT INTO notifications (user_id, notification_type, title, message) VALUES (:user, 'bench', 'row', 'm')`}
)

// asMarking is what marking one row of the reference CRM as read sends, and as
// unread the next time.
var asMarking = sending{"", "simple", `UPDATE notifications SET is_read = NOT is_read, read_at = now(), updated_at = now() WHERE id = :row`}

// errNoPgbench is returned where pgbench is not installed.
var errNoPgbench = errors.New("pgbench is not installed (it comes with Postgres; on Debian, package postgresql)")

// inserters insert single rows with several connections as fast as they can.
// They cost less than writers of our own, which would take the CPU that they are
// to measure (https://www.postgresql.org/docs/current/pgbench.html).
//
// Their sessions stay open while what is compared changes around them, as a
// CRM's pool does. A session maps each page of the server's buffers when it first
// touches it, which takes the first ten seconds or more, and costs most where most
// pages are written.
type inserters struct {
	script string
	stop   func()
	rates  chan float64 // rows a second, of each second that somebody waits for; closed when pgbench has ended

	mu   sync.Mutex
	last string // line of what it says; guarded by mu
}

// startInserters starts pgbench, which runs until close.
func startInserters(ctx context.Context, url string, writers int, how sending) (*inserters, error) {
	path, err := exec.LookPath("pgbench")
	if err != nil {
		return nil, errNoPgbench
	}
	script, err := os.CreateTemp("", "insert-*.sql")
	if err != nil {
		return nil, fmt.Errorf("write the script: %w", err)
	}
	p := &inserters{script: script.Name(), rates: make(chan float64)}
	_, err = fmt.Fprintf(script, "\\set user random(1, %d)\n\\set row random(1, %d)\n%s;\n", pgbenchUsers, crmRows, how.sql)
	if err = errors.Join(err, script.Close()); err != nil {
		return nil, errors.Join(fmt.Errorf("write the script: %w", err), os.Remove(p.script))
	}
	running, stop := context.WithCancel(ctx)
	cmd := exec.CommandContext(running, path, "--no-vacuum", "--protocol="+how.protocol, "--client="+strconv.Itoa(writers),
		"--jobs="+strconv.Itoa(min(writers, 2)), "--time=86400", "--progress=1", "--file="+p.script, url)
	said, pipe := io.Pipe()
	cmd.Stderr = pipe
	exited, err := throwaway.StartTied(cmd)
	if err != nil {
		stop()
		return nil, errors.Join(fmt.Errorf("start pgbench: %w", err), os.Remove(p.script))
	}
	go func() { <-exited; pipe.Close() }()
	go p.listen(said)
	p.stop = func() { stop(); <-exited }
	return p, nil
}

// listen reads what pgbench says.
func (p *inserters) listen(said io.Reader) {
	defer close(p.rates)
	for lines := bufio.NewScanner(said); lines.Scan(); {
		p.mu.Lock()
		p.last = lines.Text()
		p.mu.Unlock()
		if rate, ok := pgbenchRate(lines.Text()); ok {
			select {
			case p.rates <- rate:
			default: // nobody waits for this second
			}
		}
	}
}

// rate is the mean of so many whole seconds, after so many.
func (p *inserters) rate(ctx context.Context, seconds, after int) (rate float64, err error) {
	for i := range 1 + after + seconds {
		select {
		case one, ok := <-p.rates:
			if !ok {
				p.mu.Lock()
				defer p.mu.Unlock()
				return 0, fmt.Errorf("pgbench has ended: %s", p.last)
			}
			if i > after { // the first has begun before we were called
				rate += one / float64(seconds)
			}
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		}
	}
	if rate == 0 {
		return 0, errors.New("pgbench inserts nothing")
	}
	return rate, nil
}

func (p *inserters) close() error {
	p.stop()
	return os.Remove(p.script)
}

// pgbenchRate reads a line of progress.
func pgbenchRate(line string) (float64, bool) {
	found := regexp.MustCompile(`^progress: [0-9.]+ s, ([0-9.]+) tps`).FindStringSubmatch(line)
	if found == nil {
		return 0, false
	}
	rate, err := strconv.ParseFloat(found[1], 64)
	return rate, err == nil
}

// pgbench returns how many rows a second so many new writers insert.
func pgbench(ctx context.Context, url string, writers int) (rate float64, err error) {
	p, err := startInserters(ctx, url, writers, asDjango)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, p.close()) }()
	return p.rate(ctx, 2, 0)
}
