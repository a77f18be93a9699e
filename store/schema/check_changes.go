package schema

import (
	"context"
	"fmt"
	"strings"
	"time"
)

const (
	waitingRows = 100_000         // due rows that are counted at the most
	overdue     = 5 * time.Minute // a due row that still waits so long after its time is not moved by anybody
)

// changes says what each table tells of beside new rows, and how many rows wait for
// their time.
func (d doctor) changes(ctx context.Context) (string, error) {
	tables, err := tablesWith(ctx, d.conn, triggerName)
	if err != nil {
		return "", err
	}
	told, err := tablesWith(ctx, d.conn, updateName)
	if err != nil {
		return "", err
	}
	var with, without []string
	for _, t := range tables {
		if contains(told, t.oid) {
			with = append(with, t.name)
		} else {
			without = append(without, t.name)
		}
	}
	var waiting int
	var late float64
	if err := d.conn.QueryRow(ctx, `SELECT (SELECT count(*) FROM (SELECT FROM notification_gateway.due LIMIT $1) d),
		coalesce((SELECT extract(epoch FROM clock_timestamp() - min(at))::float8 FROM notification_gateway.due WHERE isfinite(at)), 0)`, waitingRows).Scan(&waiting, &late); err != nil {
		return "", fmt.Errorf("count the rows that wait for their time: %w", err)
	}
	if len(with) == 0 {
		with = []string{"no table"}
	}
	text := fmt.Sprintf("updates are told of %s; %d rows wait for their time", strings.Join(with, ", "), waiting)
	switch {
	case late > overdue.Seconds():
		return "", &advisedError{ok: true, what: fmt.Sprintf("%d rows wait for their time, and one is %v late", waiting, (time.Duration(late) * time.Second).Round(time.Second)), mend: "start a gateway; where one runs its log says why Postgres refuses"}
	case len(without) > 0:
		return "", &advisedError{ok: true, what: text + "; of " + strings.Join(without, ", ") + " only new rows are told, so a count of unread ones (count=true) is right again after GATEWAY_RECIPIENT_CHECK alone", mend: "where clients ask for counts or changes, run gateway attach TABLE with --on-update and the columns that say whether a row was read"}
	}
	return text, nil
}
