package workload

import (
	"context"
	"fmt"
	"math/rand/v2"

	"github.com/jackc/pgx/v5"
)

// maxMarked is how many rows one statement may mark as read: more than the 100
// changes of one user in a transaction that the gateway reports one by one.
const maxMarked = 250

// change is what becomes of a row after it was inserted.
type change string

const (
	markRead   change = "UPDATE %s SET is_read = true, read_at = now(), updated_at = now()"
	markUnread change = "UPDATE %s SET is_read = false, read_at = NULL, updated_at = now()"
	remove     change = "DELETE FROM %s"
)

// change changes up to most rows of this load, all of one user. It passes over
// rows that another transaction has locked, so that writers neither wait for each
// other nor deadlock.
func (w *Workload) change(ctx context.Context, tx pgx.Tx, kind change, most int) (n int, err error) {
	user := w.config.Users[rand.IntN(len(w.config.Users))]
	rows, err := tx.Query(ctx, fmt.Sprintf(string(kind), w.table)+" WHERE id IN (SELECT id FROM "+w.table+`
		WHERE user_id = $1::bigint AND starts_with(title::text, $2::text) AND is_read = $3::boolean
		ORDER BY random() LIMIT $4::integer FOR UPDATE SKIP LOCKED) RETURNING title::text`,
		user, w.marker, kind == markUnread || kind == remove && rand.IntN(2) == 0, most)
	if err != nil {
		return 0, fmt.Errorf("change: %w", err)
	}
	titles, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return 0, fmt.Errorf("change: %w", err)
	}
	w.spend(len(titles) - 1) // the turn was for one
	if kind == remove {      // noted before COMMIT, whose answer may never come
		w.mu.Lock()
		defer w.mu.Unlock()
		for _, title := range titles {
			if number, ours := w.Number(title); ours {
				w.deleted[number] = struct{}{}
			}
		}
	}
	return len(titles), nil
}
