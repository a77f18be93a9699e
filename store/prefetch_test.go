package store_test

import (
	"context"
	"fmt"
	"reflect"
	"sync/atomic"
	"testing"
	"time"

	"github.com/seed-64e334f9/notification-gateway/store"
	"github.com/seed-64e334f9/notification-gateway/store/storetest"
)

// loader takes batches as a gateway does that has streams for all users.
type loader struct {
	*crm
	streams atomic.Int64 // with none it loads nothing
	absent  atomic.Bool  // the streams are not those of the batches' users
	batches chan delivered
}

type delivered struct {
	titles     []string
	bytes      int // of full rows
	prefetched int // rows that came with the batch
	at         store.Cursor
}

func (l *loader) Streams() int { return int(l.streams.Load()) }

func (l *loader) loads() bool { return l.Streams() > 0 && !l.absent.Load() }

func (l *loader) Deliver(ctx context.Context, b store.Batch) error {
	got := delivered{prefetched: l.store.Prefetched(), at: b.Cursor}
	if l.loads() {
		rows, err := l.store.Load(ctx, b.Entries)
		if err != nil {
			return err
		}
		for _, n := range rows {
			got.titles, got.bytes = append(got.titles, title(n)), got.bytes+len(n.Data)
		}
	}
	if l.feed.Ready() != nil || len(b.Entries) > 0 { // the first, and what matters
		l.batches <- got
	}
	return nil
}

func setupLoader(t *testing.T) *loader {
	t.Helper()
	c := crmAt(t, storetest.CRM(t))
	c.make(store.Config{Recipients: store.RecipientClaim})
	c.store.CallQuick(time.Hour) // this machine may have other things to do
	l := &loader{crm: c, batches: make(chan delivered, 100)}
	l.streams.Store(1)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); c.feed.Run(ctx, l) }()
	t.Cleanup(func() { cancel(); <-done })
	<-l.batches
	return l
}

// brings inserts a row and returns how it was delivered.
func (l *loader) brings(title string) delivered {
	l.t.Helper()
	l.sql("%s", insert(5, title))
	return l.delivered(title)
}

func (l *loader) delivered(title string) delivered {
	l.t.Helper()
	for {
		select {
		case got := <-l.batches:
			if l.loads() && !reflect.DeepEqual(got.titles, []string{title}) {
				l.t.Fatalf("got %v, want %q", got.titles, title)
			}
			return got
		case <-time.After(30 * time.Second):
			l.t.Fatalf("%q does not come", title)
		}
	}
}

// warm inserts rows until they come in full with their poll.
func (l *loader) warm() {
	l.t.Helper()
	for i := range 20 {
		if l.brings(fmt.Sprint("warm ", i)).prefetched > 0 {
			return
		}
	}
	l.t.Fatal("no row ever came with its poll")
}

// Every notification cost two round trips, of which the second loaded what
// the first had found.
func TestRowsComeWithTheirPoll(t *testing.T) {
	t.Parallel()
	l := setupLoader(t)
	l.warm()
	for i := range 5 {
		if got := l.brings(fmt.Sprint("row ", i)); got.prefetched != 1 {
			t.Errorf("%d rows came with the poll, want 1", got.prefetched)
		}
	}
	// The last stream has gone: nobody asks for full rows, so none are read.
	l.streams.Store(0)
	l.brings("by a poll that was under way")
	if got := l.brings("for nobody"); got.prefetched != 0 {
		t.Errorf("%d rows were read for nobody", got.prefetched)
	}
	l.streams.Store(1)
	// An insert larger than what comes with a poll is loaded to its end.
	l.sql("INSERT INTO notifications (user_id, notification_type, title, message) SELECT 5, 'x', 'bulk ' || g, '' FROM generate_series(1, 200) g")
	for n := 0; n < 200; {
		for _, title := range (<-l.batches).titles {
			if n++; title != fmt.Sprint("bulk ", n) {
				t.Fatalf("%q came as number %d", title, n)
			}
		}
	}
}

// Where several users have a row of the same ID, as of a message to all, the poll
// took the first it found, and what was for the others was lost without a word.
func TestRowsThatShareAnIDComeWithTheirPoll(t *testing.T) {
	t.Parallel()
	l := setupLoader(t)
	l.sql(`ALTER VIEW notification_gateway.feed RENAME TO was; CREATE VIEW notification_gateway.feed AS
		SELECT w.id, k.user_key, jsonb_set(w.data::jsonb, '{title}', to_jsonb(w.data ->> 'title' || ' for ' || k.user_key)) AS data, w.created_at, w.is_read
		FROM notification_gateway.was w, (VALUES (5::bigint), (6), (7)) k (user_key)`)
	prefetched := 0
	for i := range 10 {
		l.sql("%s", insert(5, fmt.Sprint(i)))
		prefetched += l.delivered(fmt.Sprint(i, " for 5")).prefetched
		for _, user := range []int{7, 6} {
			l.sql("INSERT INTO notification_gateway.log (user_key, item_id) SELECT '%d', max(id)::text FROM notifications; NOTIFY notification_gateway", user)
			prefetched += l.delivered(fmt.Sprint(i, " for ", user)).prefetched
		}
	}
	if prefetched < 10 {
		t.Errorf("only %d rows came with their poll", prefetched)
	}
}

// A view that raises for one row, is missing, or has other types than when the
// statement was prepared, must not stop the polls that read the log alone.
func TestPollsOutliveTheViewTheyReadAhead(t *testing.T) {
	t.Parallel()
	l := setupLoader(t)
	l.warm()
	connects := l.metric("feed_reconnects_total", "")
	l.sql("CREATE FUNCTION raise() RETURNS json LANGUAGE plpgsql AS $$ BEGIN RAISE 'no such row'; END $$")
	l.sql("ALTER VIEW notification_gateway.feed RENAME TO was")
	l.sql("CREATE VIEW notification_gateway.feed AS SELECT id, user_key, CASE WHEN data ->> 'title' = 'bad' THEN raise() ELSE data::json END AS data, created_at, is_read FROM notification_gateway.was")
	l.sql("%s", insert(5, "bad"))
	if got := <-l.batches; len(got.titles) != 1 || got.prefetched != 0 {
		t.Errorf("the bad row came as %+v", got)
	}
	if got := l.brings("after"); got.prefetched != 0 {
		t.Errorf("after a failure %d rows were read ahead", got.prefetched)
	}
	if now := l.metric("feed_reconnects_total", ""); now != connects {
		t.Errorf("the feed connected %v times because of the view", now-connects)
	}
}

// While the CRM's own migration holds one of its tables, a poll that waits for
// the view as well must give it up, and the log be read without.
func TestPollsOutliveALockedView(t *testing.T) {
	t.Parallel()
	l := setupLoader(t)
	l.warm()
	other := l.connect()
	l.on(other, "BEGIN")
	l.on(other, "LOCK TABLE tasks IN ACCESS EXCLUSIVE MODE")
	l.absent.Store(true) // so that only the poll waits
	l.sql("INSERT INTO notifications (user_id, notification_type, title, message) VALUES (5, 'task_assignment', 'meanwhile', '')")
	if got := l.delivered("meanwhile"); got.prefetched != 0 {
		t.Error("the row came with its poll, so the poll did not wait")
	}
	l.on(other, "COMMIT")
}
