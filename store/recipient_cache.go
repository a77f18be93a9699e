package store

import (
	"context"
	"errors"
	"sync"
	"time"
)

const (
	rememberFor   = 5 * time.Second // so long may somebody who has become inactive still get in
	rememberAtAll = 16384           // subjects: a storm of reconnects comes from fewer, and each costs up to some 400 bytes
)

// RecipientCache looks recipients up and remembers each answer for seconds: when a
// replica restarts, everybody's tabs come at once, and each user has several.
// While one subject is being looked up, the others who ask for it wait for the
// same answer. Its methods may be called from any goroutine.
type RecipientCache struct {
	find    func(ctx context.Context, subject string) (Recipient, error)
	check   func(ctx context.Context, recipients []Recipient) (inactive, changed []Recipient, err error)
	looksUp func() bool

	mu      sync.Mutex
	answers map[string]*answer // by subject as asked; guarded by mu
}

// answer is what Postgres said, or will. The fields are written before done is
// closed, and only read after it.
type answer struct {
	done      chan struct{}
	recipient Recipient
	err       error
	at        time.Time
}

// NewRecipientCache makes a RecipientCache over a Store. While recipients are not
// looked up it passes everything through.
func NewRecipientCache(s *Store) *RecipientCache {
	return newRecipientCache(s.looksUp, s.Recipient, s.check)
}

func newRecipientCache(looksUp func() bool, find func(context.Context, string) (Recipient, error), check func(context.Context, []Recipient) (inactive, changed []Recipient, err error)) *RecipientCache {
	return &RecipientCache{looksUp: looksUp, find: find, check: check, answers: map[string]*answer{}}
}

// Recipient is Store.Recipient, from memory when it was asked for a moment
// ago; also that a subject names nobody is remembered, but no other error.
func (d *RecipientCache) Recipient(ctx context.Context, subject string) (Recipient, error) {
	if !d.looksUp() {
		return d.find(ctx, subject)
	}
	a, mine := d.enter(subject)
	if mine {
		// Others wait for it too: the first one's client may leave.
		a.recipient, a.err = d.find(context.WithoutCancel(ctx), subject)
		a.at = time.Now()
		close(a.done)
		if a.err != nil && !errors.Is(a.err, ErrNoRecipient) {
			d.forget(subject, a)
		}
		return a.recipient, a.err
	}
	select {
	case <-a.done:
		return a.recipient, a.err
	case <-ctx.Done():
		return Recipient{}, context.Cause(ctx)
	}
}

// enter returns the answer that is fresh or under way, or a new one that the
// caller must complete.
func (d *RecipientCache) enter(subject string) (a *answer, mine bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if a, ok := d.answers[subject]; ok && a.fresh() {
		return a, false
	}
	if len(d.answers) >= rememberAtAll {
		for other := range d.answers { // map order is random enough; who waits for it holds it
			delete(d.answers, other)
			break
		}
	}
	a = &answer{done: make(chan struct{})}
	d.answers[subject] = a
	return a, true
}

func (a *answer) fresh() bool {
	select {
	case <-a.done:
		return time.Since(a.at) < rememberFor
	default:
		return true // under way
	}
}

func (d *RecipientCache) forget(subject string, a *answer) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.answers[subject] == a {
		delete(d.answers, subject)
	}
}

// Check returns those of the recipients that are not active any more, and those
// that have other further keys by now, in one query. It forgets what it knew of
// them, so that they do not get in again as they were. Only recipients that were
// looked up can be asked for.
func (d *RecipientCache) Check(ctx context.Context, recipients []Recipient) (inactive, changed []Recipient, err error) {
	if len(recipients) == 0 {
		return nil, nil, nil
	}
	if inactive, changed, err = d.check(ctx, recipients); err != nil {
		return nil, nil, err
	}
	subjects := make(map[string]bool, len(inactive)+len(changed))
	for _, r := range inactive {
		subjects[r.Subject] = true
	}
	for _, r := range changed {
		subjects[r.Subject] = true
	}
	if len(subjects) == 0 {
		return nil, nil, nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for asked, a := range d.answers {
		select {
		case <-a.done:
			if subjects[a.recipient.Subject] {
				delete(d.answers, asked)
			}
		default: // under way: Postgres says what holds now
		}
	}
	return inactive, changed, nil
}
