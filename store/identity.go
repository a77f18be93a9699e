package store

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/seed-64e334f9/notification-gateway/store/internal/pg"
	"github.com/seed-64e334f9/notification-gateway/store/internal/view"
)

// Identity watches over the view identity: where recipients are looked up
// nobody gets in without it. It knows whether the view is there, not whether
// Postgres is, which the feed says.
type Identity struct {
	store *Store

	mu  sync.Mutex
	why error // why the view cannot be read, nil while it can; guarded by mu
}

// NewIdentity makes the Identity of a Store. It does not connect.
func NewIdentity(s *Store) *Identity {
	i := &Identity{store: s}
	if s.config.Lookup {
		i.why = ErrNotReady
	}
	return i
}

// Ready returns nil while the view can be read, or is not needed, else why not.
func (i *Identity) Ready() error {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.why
}

// warn says once, where recipients are not looked up, that the view identity has
// others: with tokens that name its subjects, users would get what is for somebody
// else.
func (i *Identity) warn(ctx context.Context) {
	var pause backoff
	for ctx.Err() == nil {
		var subject, userKey string
		asking, cancel := context.WithTimeout(ctx, recipientDeadline)
		err := i.store.queryRow(asking, view.OtherRecipientSQL).Scan(&subject, &userKey)
		cancel()
		if err == nil {
			i.store.config.Logger.Warn("a token's user is taken for the recipient, and the view identity gives some of them another; see GATEWAY_RECIPIENT")
		}
		if away := (pg.ConnectError{}); !errors.As(err, &away) { // else there is none, or no such view, or it takes too long
			return
		}
		pause.wait(ctx)
	}
}

// Run looks every few seconds until ctx ends and returns its cause. Where
// recipients are not looked up it warns once if they should be, and waits.
func (i *Identity) Run(ctx context.Context) error {
	if !i.store.config.Lookup {
		i.warn(ctx)
		<-ctx.Done()
		return context.Cause(ctx)
	}
	var pause backoff
	for ctx.Err() == nil {
		if i.look(ctx) {
			pause = backoff{next: backoffMax}
		}
		pause.wait(ctx)
	}
	return context.Cause(ctx)
}

// look asks for the columns and no row, and reports whether they are there.
func (i *Identity) look(ctx context.Context) bool {
	asking, cancel := context.WithTimeout(ctx, recipientDeadline)
	defer cancel()
	_, err := i.store.exec(asking, "SELECT FROM (SELECT subject, user_key FROM notification_gateway.identity) i LIMIT 0")
	if err != nil && !pg.IsObjectError(err) {
		return false // it may be there: what is amiss is not the view
	}
	if err != nil {
		err = fmt.Errorf("recipients cannot be looked up: write the view identity with the columns subject and user_key, see sql/README.md: %w", err)
	}
	i.mu.Lock()
	known := i.why
	i.why = err
	i.mu.Unlock()
	if err != nil && (known == nil || known.Error() != err.Error()) {
		i.store.config.Logger.Warn("no stream can be opened", "err", err)
	}
	return err == nil
}
