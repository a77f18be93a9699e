package store

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/seed-64e334f9/notification-gateway/store/internal/pg"
	"github.com/seed-64e334f9/notification-gateway/store/internal/view"
)

// identitySeen is what RecipientAuto goes by.
type identitySeen struct {
	mu   sync.Mutex
	seen bool // the view identity was there; never false again; guarded by mu
	said bool // that it was not, in the log; guarded by mu
}

// looksUp reports whether recipients come from the view identity.
func (s *Store) looksUp() bool {
	switch s.config.Recipients {
	case RecipientClaim:
		return false
	case RecipientLookup:
		return true
	}
	s.identity.mu.Lock()
	defer s.identity.mu.Unlock()
	return s.identity.seen
}

// lookForIdentity decides where recipients come from while that is open, and says
// so in the log: at the start, and when the view has come. Every connection of the
// feed does it before the first stream can be opened, and IdentityView after that.
func (s *Store) lookForIdentity(ctx context.Context, ask queryRow) error {
	if s.config.Recipients == RecipientClaim || s.looksUp() {
		return nil
	}
	var there bool
	if err := ask(ctx, "SELECT "+identityThereSQL).Scan(&there); err != nil {
		return fmt.Errorf("look for the view identity: %w", err)
	}
	s.identity.mu.Lock()
	defer s.identity.mu.Unlock()
	switch {
	case there && !s.identity.seen:
		s.config.Logger.Info("recipients are looked up in the view identity", "GATEWAY_RECIPIENT", RecipientAuto)
	case !there && !s.identity.said:
		s.config.Logger.Info("a token's user is the recipient, because there is no view identity", "GATEWAY_RECIPIENT", RecipientAuto)
	}
	s.identity.seen, s.identity.said = s.identity.seen || there, true
	return nil
}

// IdentityView watches over the view identity: where recipients are looked up
// nobody gets in without it. It knows whether the view is there, not whether
// Postgres is, which the feed says.
type IdentityView struct {
	store *Store

	mu  sync.Mutex
	why error // why the view cannot be read, nil while it can; guarded by mu
}

// NewIdentityView makes the IdentityView of a Store. It does not connect.
func NewIdentityView(s *Store) *IdentityView {
	i := &IdentityView{store: s}
	if s.config.Recipients == RecipientLookup {
		i.why = ErrNotReady
	}
	return i
}

// Ready returns nil while the view can be read, or is not needed, else why not.
func (i *IdentityView) Ready() error {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.why
}

// warn says once, where the claim is the recipient, that the view identity has
// others: with tokens that name its subjects, users would get what is for somebody
// else.
func (i *IdentityView) warn(ctx context.Context) {
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

// Run looks every few seconds until ctx ends and returns its cause. With
// RecipientClaim it warns once if recipients should be looked up, and waits.
func (i *IdentityView) Run(ctx context.Context) error {
	if i.store.config.Recipients == RecipientClaim {
		i.warn(ctx)
		<-ctx.Done()
		return context.Cause(ctx)
	}
	var pause backoff
	for ctx.Err() == nil {
		if i.check(ctx) {
			pause = backoff{next: backoffMax}
		}
		pause.wait(ctx)
	}
	return context.Cause(ctx)
}

// check asks for the columns and no row, and reports whether nothing is amiss.
// With RecipientAuto it first asks whether the view is there by now.
func (i *IdentityView) check(ctx context.Context) bool {
	asking, cancel := context.WithTimeout(ctx, recipientDeadline)
	defer cancel()
	if err := i.store.lookForIdentity(asking, i.store.queryRow); err != nil {
		return false
	}
	if !i.store.looksUp() {
		return true
	}
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
