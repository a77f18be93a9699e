package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/seed-64e334f9/notification-gateway/store/internal/pg"
)

const (
	unreadConns    = 2                // connections that lists have of their own: a list may take seconds
	unreadDeadline = 10 * time.Second // for one try
	unreadTries    = 2                // that take too long, then the client is told to reload
	unreadPause    = time.Minute      // in which a list that took too long is not asked for again
	unreadApart    = 20_000           // rows of a user that are judged apart, where the view fails for one of them
)

// ErrUnreadUnreadable is returned by Unread where the list cannot be had: it takes too
// long, or the view fails for rows that cannot be told apart. It will not get
// better by itself: the user must be told that something was missed.
var ErrUnreadUnreadable = errors.New("the unread notifications cannot be listed")

// UnreadList is what Unread found.
type UnreadList struct {
	Entries    []Entry // oldest first
	Truncated  bool    // there are more than the limit, and Entries are the newest
	Unreadable int     // rows of which it cannot be said whether they are unread, because the view fails for them
}

// unreadLists is what lists of unread notifications have of their own. A user with
// hundreds of thousands of them holds up nobody else: not those who replay, and
// not himself with several pages at a time.
type unreadLists struct {
	pool  *pgxpool.Pool
	turns *turns
	limit time.Duration // for one try

	mu   sync.Mutex
	late map[string]time.Time // users whose list took too long, and until when it is not asked for; guarded by mu
}

// Unread lists a user's unread notifications for LoadPage to bring: the newest
// limit of them, oldest first. They are no part of the commit order; the caller
// registers at a position first and so can only repeat, not miss. Its error is
// ErrNotReady, wraps ErrUnreadUnreadable, or means that Postgres could not be asked.
func (s *Store) Unread(ctx context.Context, userKey string, limit int) (UnreadList, error) {
	server := s.server.Load()
	if server == nil {
		return UnreadList{}, ErrNotReady
	}
	done, err := s.unread.turns.take(ctx, userKey)
	if err != nil {
		return UnreadList{}, fmt.Errorf("list the unread: %w", err)
	}
	defer done()
	if s.unread.isLate(userKey, time.Now()) {
		return UnreadList{}, fmt.Errorf("%w: it took too long a moment ago", ErrUnreadUnreadable)
	}
	list, err := s.listUnread(ctx, server, userKey, limit)
	for try := 1; err != nil && ctx.Err() == nil && isLate(err); try++ {
		if try == unreadTries {
			s.unread.setLate(userKey, time.Now())
			return UnreadList{}, fmt.Errorf("%w within %v: %w", ErrUnreadUnreadable, s.unread.limit, err)
		}
		list, err = s.listUnread(ctx, server, userKey, limit)
	}
	switch {
	case err == nil:
		return list, nil
	case ctx.Err() != nil:
		return UnreadList{}, fmt.Errorf("list the unread: %w", context.Cause(ctx))
	case !pg.IsRowError(err):
		return UnreadList{}, fmt.Errorf("list the unread: %w", err)
	}
	if anew, typeErr := s.relearn(ctx, s.replays.deadline); typeErr != nil || anew {
		return UnreadList{}, fmt.Errorf("list the unread: %w", err)
	}
	if _, viewErr := s.loadRows(ctx, server, nil, s.replays); viewErr != nil { // no row is at fault
		return UnreadList{}, fmt.Errorf("list the unread: %w", err)
	}
	return s.listApart(ctx, server, userKey, limit, err)
}

// isLate reports whether a user's list took too long a moment ago.
func (l *unreadLists) isLate(userKey string, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return now.Before(l.late[userKey])
}

func (l *unreadLists) setLate(userKey string, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for user, until := range l.late { // few: each has cost two deadlines
		if !now.Before(until) {
			delete(l.late, user)
		}
	}
	l.late[userKey] = now.Add(unreadPause)
}

// unreadSQL lists a user's newest unread rows. $1 user, $2 how many. The order
// comes from created_at, of which no value is read: Postgres has values, such as
// infinity, that Go has not. Where created_at is a plain column with an index
// behind the user, Postgres reads no more than $2 rows.
const unreadSQL = `SELECT id::text FROM notification_gateway.feed f
WHERE user_key = $1::text::KEY_TYPE AND NOT is_read ORDER BY created_at DESC, f.id DESC LIMIT $2`

// listUnread asks for one row more than the limit, which says that there are more.
func (s *Store) listUnread(ctx context.Context, server *server, userKey string, limit int) (list UnreadList, err error) {
	ids, err := s.unread.column(ctx, s, server.typed(unreadSQL), userKey, limit+1)
	if err != nil {
		return list, err
	}
	for _, id := range ids {
		list.Entries = append(list.Entries, Entry{UserKey: userKey, ItemID: id})
	}
	list.cut(limit)
	return list, nil
}

// countLimit bounds a count: past it a page shows that there are more.
const countLimit = 1000

// countSQL counts a user's unread rows, of which it reads $2 at the most. $1 user.
const countSQL = `SELECT count(*) FROM (SELECT FROM notification_gateway.feed WHERE user_key = $1::text::KEY_TYPE AND NOT is_read LIMIT $2) u`

// CountUnread counts a user's unread notifications, up to 1,000, and reports whether
// there are more. Its error is ErrNotReady, or means that Postgres could not be
// asked or that the view fails for one of the rows.
func (s *Store) CountUnread(ctx context.Context, userKey string) (n int, more bool, err error) {
	server := s.server.Load()
	if server == nil {
		return 0, false, ErrNotReady
	}
	if key, ok := canonical(userKey, server.keyType); !ok || key != userKey {
		return 0, false, nil // the view has no such user
	}
	ctx, cancel := context.WithTimeout(ctx, s.replays.deadline)
	defer cancel()
	if err := s.queryRow(ctx, server.typed(countSQL), userKey, countLimit+1).Scan(&n); err != nil {
		return 0, false, fmt.Errorf("count unread notifications: %w", err)
	}
	return min(n, countLimit), n > countLimit, nil
}

// cut keeps the first limit entries, and turns them round.
func (l *UnreadList) cut(limit int) {
	if len(l.Entries) > limit {
		l.Entries, l.Truncated = l.Entries[:limit], true
	}
	slices.Reverse(l.Entries)
}

// column asks on a connection of the lists for texts.
func (l *unreadLists) column(ctx context.Context, s *Store, statement string, args ...any) (texts []string, err error) {
	ctx, cancel := context.WithTimeout(ctx, l.limit)
	defer cancel()
	rows, err := pg.Query(ctx, l.pool, s.direct.Load(), statement, args...)
	if err != nil {
		return nil, pg.ConnectCause(err)
	}
	defer rows.Close()
	for rows.Next() {
		var text string
		if err := rows.Scan(&text); err != nil {
			return nil, err
		}
		texts = append(texts, text)
	}
	return texts, pg.ConnectCause(rows.Err())
}

const (
	// allIDsSQL lists a user's rows. $1 user, $2 how many. Nothing that the view
	// computes is read.
	allIDsSQL = `SELECT id::text FROM notification_gateway.feed WHERE user_key = $1::text::KEY_TYPE LIMIT $2`
	// someUnreadSQL lists which of a user's rows are unread, each after its time in
	// seconds and a space. $1 user, $2 the IDs.
	someUnreadSQL = `SELECT coalesce(extract(epoch FROM created_at)::double precision, 'Infinity'::double precision)::text || ' ' || id::text
FROM notification_gateway.feed WHERE user_key = $1::text::KEY_TYPE AND id = ANY ($2::text[]::ID_TYPE[]) AND NOT is_read`
)

// listApart lists what can be listed where the view fails for some of a user's
// rows: it halves them until those stand alone. cause is why the list failed.
func (s *Store) listApart(ctx context.Context, server *server, userKey string, limit int, cause error) (list UnreadList, err error) {
	ctx, cancel := context.WithTimeout(ctx, s.unread.limit)
	defer cancel()
	ids, err := s.unread.column(ctx, s, server.typed(allIDsSQL), userKey, unreadApart+1)
	if err != nil || len(ids) > unreadApart {
		return list, fmt.Errorf("%w: %w", ErrUnreadUnreadable, cause)
	}
	var timed []timedID
	for page := range slices.Chunk(ids, loadPage) {
		if timed, err = s.unreadOf(ctx, server, userKey, page, timed, &list.Unreadable); err != nil {
			return UnreadList{}, fmt.Errorf("%w: %w", ErrUnreadUnreadable, cause)
		}
	}
	slices.SortStableFunc(timed, func(a, b timedID) int { return cmp.Compare(b.seconds, a.seconds) })
	for _, t := range timed {
		list.Entries = append(list.Entries, Entry{UserKey: userKey, ItemID: t.id})
	}
	list.cut(limit)
	return list, nil
}

// timedID is an unread row and its created_at.
type timedID struct {
	seconds float64
	id      string
}

func parseTimedID(text string) (t timedID, err error) {
	seconds, id, _ := strings.Cut(text, " ")
	if t.seconds, err = strconv.ParseFloat(seconds, 64); err != nil {
		return t, fmt.Errorf("time of a row: %w", err)
	}
	t.id = id
	return t, nil
}

// unreadOf appends those of a user's rows that are unread, and counts those for
// which the view fails.
func (s *Store) unreadOf(ctx context.Context, server *server, userKey string, ids []string, out []timedID, unreadable *int) ([]timedID, error) {
	texts, err := s.unread.column(ctx, s, server.typed(someUnreadSQL), userKey, ids)
	switch {
	case err != nil && !pg.IsRowError(err):
		return out, err
	case err != nil && len(ids) == 1:
		*unreadable++
		return out, nil
	case err != nil:
		half := len(ids) / 2
		if out, err = s.unreadOf(ctx, server, userKey, ids[:half], out, unreadable); err != nil {
			return out, err
		}
		return s.unreadOf(ctx, server, userKey, ids[half:], out, unreadable)
	}
	for _, text := range texts {
		var t timedID
		if t, err = parseTimedID(text); err != nil {
			return out, err
		}
		out = append(out, t)
	}
	return out, nil
}
