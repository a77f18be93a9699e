package store

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// register is a view identity that a test may change; each look-up takes a
// second.
type register struct {
	asked atomic.Int32
	err   atomic.Pointer[error]
}

func (r *register) find(ctx context.Context, subject string) (Recipient, error) {
	r.asked.Add(1)
	select {
	case <-time.After(time.Second):
	case <-ctx.Done():
		return Recipient{}, ctx.Err()
	}
	if err := r.err.Load(); err != nil {
		return Recipient{}, *err
	}
	return Recipient{Subject: subject, UserKey: "key of " + subject}, nil
}

func (r *register) fail(err error) { r.err.Store(&err) }

// A replica that starts gets everybody's tabs at once: one look-up a user must
// do for all of them, and the first tab's being closed must not fail the rest.
func TestRecipientCacheAsksOnceForAHerd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r register
		d := newRecipientCache(lookUp, r.find, nil)
		first, leave := context.WithCancel(t.Context())
		for i := range 100 {
			ctx := t.Context()
			if i == 0 {
				ctx = first
			}
			go func() {
				if got, err := d.Recipient(ctx, "5"); err != nil || got.UserKey != "key of 5" {
					t.Errorf("%+v, %v", got, err)
				}
			}()
			synctest.Wait()
		}
		leave()
		impatient, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if _, err := d.Recipient(impatient, "5"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("who does not wait any longer gets %v", err)
		}
		time.Sleep(2 * time.Second)
		if n := r.asked.Load(); n != 1 {
			t.Errorf("Postgres was asked %d times, want once", n)
		}
	})
}

// Remembered too long, somebody who was dismissed gets in; an outage that is
// remembered lasts longer than it did; without a bound the memory fills up.
func TestRecipientCacheForgets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r register
		d := newRecipientCache(lookUp, r.find, func(_ context.Context, all []Recipient) ([]Recipient, []Recipient, error) { return all, nil, nil })
		ask := func(want error, asked int32) {
			t.Helper()
			before := r.asked.Load()
			if _, err := d.Recipient(t.Context(), "5"); !errors.Is(err, want) {
				t.Errorf("%v, want %v", err, want)
			}
			if n := r.asked.Load() - before; n != asked {
				t.Errorf("Postgres was asked %d times, want %d", n, asked)
			}
		}
		outage := errors.New("Postgres is away")
		r.fail(outage)
		ask(outage, 1)
		r.err.Store(nil)
		ask(nil, 1)
		r.fail(ErrNoRecipient)
		time.Sleep(rememberFor - time.Millisecond)
		ask(nil, 0)
		time.Sleep(time.Millisecond)
		ask(ErrNoRecipient, 1)
		r.err.Store(nil)
		ask(ErrNoRecipient, 0)
		time.Sleep(rememberFor)
		ask(nil, 1)
		if gone, _, err := d.Check(t.Context(), []Recipient{{Subject: "5", UserKey: "key of 5"}}); err != nil || len(gone) != 1 {
			t.Errorf("%v, %v", gone, err)
		}
		ask(nil, 1)
		for i := range rememberAtAll + 100 {
			go d.Recipient(t.Context(), fmt.Sprint("many", i))
		}
		synctest.Wait()
		if n := len(d.answers); n > rememberAtAll {
			t.Errorf("%d answers are remembered, want at most %d", n, rememberAtAll)
		}
		time.Sleep(time.Minute)
	})
}

func lookUp() bool { return true }
