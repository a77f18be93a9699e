package store

import (
	"context"
	"time"
)

// Later is the position that a server whose clock was ahead by d would have
// given.
func (c Cursor) Later(d time.Duration) Cursor {
	c.at = c.at.Add(d)
	return c
}

// Impatient makes f give up the first answer after d.
func (f *Feed) Impatient(d time.Duration) { f.patience = d }

// HurryLists gives a list of unread notifications d to come.
func (s *Store) HurryLists(d time.Duration) { s.unread.limit = d }

// HurryLoads gives a page of rows d to come.
func (s *Store) HurryLoads(d time.Duration) { s.batches.deadline, s.replays.deadline = d, d }

// CallQuick has rows come with their polls though they took up to d.
func (s *Store) CallQuick(d time.Duration) { s.prefetch.maxPerRow = d }

// ReportDue is what Prune does once a minute.
func (s *Store) ReportDue(ctx context.Context) { s.reportDue(ctx) }

// How much of full rows may be in memory at once.
const (
	LoadBytes   = loadBytes
	ReplayBytes = replayBytes
)

// The statements whose plans matter when the log is large.
const (
	PollSQL        = pollSQL
	PollGuardSQL   = pollSQL + pollGuardSQL
	ReplaySQL      = replaySQL
	ReplayGuardSQL = replayAgainSQL
)

// Statements are those that are asked for every batch, replay and connect, as
// Postgres gets them where both keys are of type bigint.
func Statements() map[string]string {
	server := &server{idType: "bigint", keyType: "bigint"}
	return map[string]string{
		"poll": pollSQL, "poll_in_a_new_life": pollSQL + pollGuardSQL, "poll_with_rows": fullPollSQL(server),
		"replay": replaySQL, "replay_in_a_new_life": replayAgainSQL,
		"replay_with_changes": replayChangesSQL, "replay_with_changes_in_a_new_life": replayChangesAgainSQL,
		"rows": server.typed(rowsSQL), "rows_of_users": server.typed(usersRowsSQL),
		"unread": server.typed(unreadSQL), "unread_of_some": server.typed(someUnreadSQL), "ids_of_a_user": server.typed(allIDsSQL),
		"recipient": identitySQL(), "recipients": identitiesSQL,
	}
}

// RowsSQL and UsersRowsSQL are those of a page of rows.
func RowsSQL() string { return (&server{idType: "bigint", keyType: "bigint"}).typed(rowsSQL) }

func UsersRowsSQL() string { return (&server{idType: "bigint", keyType: "bigint"}).typed(usersRowsSQL) }

// ByUsers has rows asked for by their users as well, or not.
func (s *Store) ByUsers(users bool) { s.rowStatement.byUser, s.rowStatement.trial = users, false }

// UnreadSQL is that of a list of unread notifications.
func UnreadSQL(keyType string) string { return (&server{keyType: keyType}).typed(unreadSQL) }

// FullPollSQL is that of a poll that brings its rows in full.
func FullPollSQL() string { return fullPollSQL(&server{idType: "bigint", keyType: "bigint"}) }

// Warn is what Run does first where recipients are not looked up.
func (i *IdentityView) Warn(ctx context.Context) { i.warn(ctx) }

// Prefetched returns how many full rows have come with the batch that is being
// delivered.
func (s *Store) Prefetched() int {
	s.prefetch.mu.Lock()
	defer s.prefetch.mu.Unlock()
	n := 0
	for _, row := range s.prefetch.found.rows {
		if row.here {
			n++
		}
	}
	return n
}
