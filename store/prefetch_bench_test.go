package store_test

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/seed-64e334f9/notification-gateway/store"
	"github.com/seed-64e334f9/notification-gateway/store/storetest"
)

// What it is worth that rows come with the poll that finds them: the time from an
// INSERT's answer to the row in full. Both ways take turns, so that whatever else
// the machine does meets both.
func BenchmarkRowInFull(b *testing.B) {
	for _, rows := range []int{1, 10, 100} {
		b.Run(fmt.Sprint(rows), func(b *testing.B) {
			ways := map[string]func(rows int) time.Duration{"with": followAndLoad(b, time.Hour), "loaded": followAndLoad(b, 0)}
			took := map[string][]time.Duration{}
			for i := range b.N + 50 {
				for name, insert := range ways {
					if d := insert(rows); i >= 50 {
						took[name] = append(took[name], d)
					}
				}
			}
			for name, all := range took {
				slices.Sort(all)
				b.ReportMetric(float64(all[len(all)/10].Microseconds()), "µs-p10-"+name)
				b.ReportMetric(float64(all[len(all)/2].Microseconds()), "µs-p50-"+name)
			}
		})
	}
}

// followAndLoad runs a feed that loads everything, and returns what inserts rows and
// waits for them in full.
func followAndLoad(b *testing.B, quick time.Duration) (insert func(rows int) time.Duration) {
	url := storetest.CRM(b)
	conn, err := pgx.Connect(b.Context(), url)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { conn.Close(context.Background()) })
	s, err := store.Open(b.Context(), store.Config{
		URL: url, Retention: time.Hour, Logger: slog.New(slog.DiscardHandler), Metrics: store.NewMetrics(prometheus.NewRegistry()),
	})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(s.Close)
	s.CallQuick(quick) // rows that took longer than that do not come with polls
	feed, err := store.NewFeed(s)
	if err != nil {
		b.Fatal(err)
	}
	loaded := make(chan int, 1000)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		feed.Run(ctx, taker(func(ctx context.Context, batch store.Batch) error {
			_, err := s.Load(ctx, batch.Entries)
			loaded <- len(batch.Entries)
			return err
		}))
	}()
	b.Cleanup(func() { cancel(); <-done })
	<-loaded
	return func(rows int) time.Duration {
		const statement = "INSERT INTO notifications (user_id, notification_type, title, message, metadata) SELECT 5, 'x', 'a title', 'a message of a usual length, with a few words in it', '{}' FROM generate_series(1, $1::int)"
		if _, err := conn.Exec(b.Context(), statement, rows); err != nil {
			b.Fatal(err)
		}
		acknowledged := time.Now()
		for n := 0; n < rows; {
			n += <-loaded
		}
		return time.Since(acknowledged)
	}
}
