package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/seed-64e334f9/notification-gateway/store/internal/pg"
)

const (
	batchPageTimeout  = 2 * time.Second  // for one page of a batch: the feed waits for it, and so does every stream
	batchTimeout      = 10 * time.Second // for a batch; rows that are not loaded by then get ErrRowTimeout
	replayPageTimeout = 10 * time.Second // for one page of a replay: one client waits for it
	loadPage          = 500              // rows in one round trip at the most
	firstPage         = 50               // rows in the first round trip, before the size of rows is known; most batches are smaller
	replaysOfUser     = 2                // pages of one user's replays that are asked for at once
	loadBytes         = 32 << 20         // full rows of one batch in memory, in bytes; one row may exceed it
	loadSmall         = 256 << 10        // a bound of bytes that one round trip may fill
	replayBytes       = 4 << 20          // full rows of one page of a replay in memory; hundreds of replays may run at once
)

// ErrBatchTooLarge is returned for entries whose full rows are too large to be in
// memory at once. The feed brings fewer when Deliver returns it.
var ErrBatchTooLarge = errors.New("the rows are too large to be loaded at once")

// ErrRowTimeout is the Err of a row that Load could not bring in time, while it
// brought others. The stream gets the row by a replay, which has more time.
var ErrRowTimeout = errors.New("the row takes too long to read")

// loadOptions is how rows are loaded.
type loadOptions struct {
	deadline time.Duration // for one page
	until    time.Time     // rows that are not loaded by then get ErrRowTimeout; zero: no such time
	bytes    int           // after so many it ends
}

// within returns how with a smaller bound of bytes.
func (how loadOptions) within(bytes int) loadOptions {
	how.bytes = min(how.bytes, bytes)
	return how
}

// page is for how many rows of so many bytes to ask at once: for a quarter of the
// bound, because the next rows may be larger; for all of a small one, where rows
// that are read in vain cost less than further round trips.
func (how loadOptions) page(rowSize int) int {
	bytes := how.bytes
	if bytes > loadSmall {
		bytes /= 4
	}
	return min(loadPage, 1+bytes/(1+rowSize))
}

// Load brings the full rows of entries, which are of the batch that is being
// delivered and in order of the log: same length and order, in one round trip for
// a page. So a view that is slow makes a large batch late, but does not let it
// fail again and again. Its error is ErrBatchTooLarge, or means that Postgres could
// not be asked, or that the view feed cannot be read at all: the caller tries again
// later; a row that alone cannot be read, or not in time (ErrRowTimeout), has its own
// Err.
func (s *Store) Load(ctx context.Context, entries []Entry) ([]Notification, error) {
	began := time.Now()
	out, missing := s.prefetch.find(entries)
	if len(missing) > 0 {
		rest := make([]Entry, len(missing))
		for k, i := range missing {
			rest[k] = entries[i]
		}
		how := s.batches
		how.until = began.Add(batchTimeout)
		loaded, err := s.load(ctx, rest, how)
		switch {
		case err != nil:
			return nil, err
		case len(loaded) < len(rest):
			return nil, ErrBatchTooLarge
		}
		for k, i := range missing {
			out[i] = loaded[k]
		}
	}
	s.prefetch.recordUse(out, time.Since(began))
	return out, nil
}

// LoadPage brings the full rows of the first of entries, as Load does: at least
// one, and no more than so many bytes, of which one row may have more.
func (s *Store) LoadPage(ctx context.Context, entries []Entry, bytes int) ([]Notification, error) {
	if len(entries) == 0 {
		return nil, nil
	}
	done, err := s.replayTurns.take(ctx, entries[0].UserKey)
	if err != nil {
		return nil, fmt.Errorf("load %d notifications: %w", len(entries), err)
	}
	defer done()
	return s.load(ctx, entries, s.replays.within(bytes))
}

// load asks Postgres. It brings at least one row, and ends early when it has
// the bytes.
func (s *Store) load(ctx context.Context, entries []Entry, how loadOptions) ([]Notification, error) {
	var out []Notification
	size := min(firstPage, how.page(int(s.rowSize.Load())))
	for bytes := 0; len(out) < len(entries) && bytes < how.bytes; {
		server := s.server.Load()
		if server == nil {
			return nil, ErrNotReady
		}
		page := entries[len(out):min(len(out)+size, len(entries))]
		began := time.Now()
		rows, err := s.loadRows(ctx, server, page, how)
		if err != nil && ctx.Err() == nil && pg.IsTimeLimit(err) && time.Since(began) < how.deadline/2 {
			rows, err = s.loadRows(ctx, server, page, how) // somebody cancelled it, and it was not too late
		}
		if err == nil && len(rows) == 0 { // others came first, and were large
			size = 1
			continue
		}
		if err != nil && ctx.Err() == nil && (pg.IsRowError(err) || isLate(err)) {
			rows, err = s.loadHalves(ctx, page, err, how)
		}
		if ctx.Err() != nil { // what Postgres says of a statement that we cancelled is no news
			err = context.Cause(ctx)
		}
		if err != nil {
			return nil, fmt.Errorf("load %d notifications: %w", len(page), err)
		}
		out = append(out, rows...)
		read := 0
		for _, n := range rows {
			read += len(n.Data)
		}
		bytes += read
		s.rowSize.Store(int64(read / len(rows)))
		size = how.page(bytes / len(out))
	}
	return out, nil
}

// loadHalves finds the rows that make a batch fail by halving it, and gives
// the halves of one that is late a deadline each.
func (s *Store) loadHalves(ctx context.Context, entries []Entry, cause error, how loadOptions) ([]Notification, error) {
	if !how.until.IsZero() && time.Now().After(how.until) {
		out := make([]Notification, len(entries))
		for i, e := range entries {
			out[i] = Notification{Entry: e, Err: ErrRowTimeout}
		}
		return out, nil
	}
	if len(entries) == 1 {
		return s.loadOne(ctx, entries[0], cause, how)
	}
	half := len(entries) / 2
	left, err := s.load(ctx, entries[:half], how)
	if err != nil || len(left) < half {
		return left, err
	}
	right, err := s.load(ctx, entries[half:], how)
	if err != nil {
		return nil, err
	}
	return append(left, right...), nil
}

// loadOne says what is wrong with a row that alone cannot be read. A view that
// nobody can read is no fault of the row: it must wait to be mended, or every
// recipient would be told to reload for nothing. Nor is a view that was made
// anew with keys of another type.
func (s *Store) loadOne(ctx context.Context, e Entry, cause error, how loadOptions) ([]Notification, error) {
	if _, err := s.loadRows(ctx, s.server.Load(), nil, how); err != nil {
		anew, typeErr := s.relearn(ctx, how.deadline)
		if typeErr == nil && anew {
			return s.load(ctx, []Entry{e}, how)
		}
		return nil, fmt.Errorf("read the view feed: %w", err)
	}
	if isLate(cause) {
		cause = ErrRowTimeout
	}
	return []Notification{{Entry: e, Err: cause}}, nil
}

// relearn asks for the types of the view's keys again, and reports whether they
// are others.
func (s *Store) relearn(ctx context.Context, deadline time.Duration) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, deadline)
	defer cancel()
	changed, err := s.server.learnTypes(ctx, s.queryRow)
	if err != nil {
		return false, err
	}
	if err := s.lookForIdentity(ctx, s.queryRow); err != nil { // the same mapping may have brought it
		return false, err
	}
	return changed, nil
}

// isLate reports whether a statement failed because it took too long: for us, or
// for a time limit of the session.
func isLate(err error) bool {
	return errors.Is(err, context.DeadlineExceeded) || pg.IsTimeLimit(err)
}
