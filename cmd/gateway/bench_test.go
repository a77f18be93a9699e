package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/seed-64e334f9/notification-gateway/store/storetest"
	"github.com/seed-64e334f9/notification-gateway/store/throwaway"
)

const benchInsert = "INSERT INTO notifications (user_id, notification_type, title, message) VALUES (5, 'x', $1, 'm')"

// BenchmarkLatency measures the time from COMMIT's acknowledgement to the line
// that the client has read, at fixed rates of single-row transactions.
func BenchmarkLatency(b *testing.B) {
	url := storetest.CRM(b)
	environment(b, url)
	db := open(b, url)
	g := serveInTest(b)
	g.readyz(b, 200)
	token := mint(b, "5")
	for _, rate := range []int{20, 500} {
		b.Run(fmt.Sprintf("rate=%d", rate), func(b *testing.B) {
			for b.Loop() {
				delays := latencies(b, g, db, token, rate)
				slices.Sort(delays)
				b.ReportMetric(float64(delays[len(delays)/2].Microseconds()), "median-µs")
				b.ReportMetric(float64(delays[len(delays)*99/100].Microseconds()), "p99-µs")
			}
		})
	}
}

// latencies inserts for five seconds and returns each row's delay.
func latencies(b *testing.B, g *instance, db *throwaway.DB, token string, rate int) []time.Duration {
	const seconds = 5
	lines := g.stream(b, token, "")
	until(b, lines, "Connected")
	committed := make([]time.Time, seconds*rate)
	read := make([]time.Time, seconds*rate)
	var reading sync.WaitGroup
	reading.Go(func() {
		for n := 0; n < len(read) && lines.Scan(); {
			at := time.Now()
			_, rest, found := strings.Cut(lines.Text(), `"title":"row `)
			if !found {
				continue
			}
			var i int
			if _, err := fmt.Sscanf(rest, "%d", &i); err == nil {
				read[i] = at
				n++
			}
		}
	})
	tick := time.NewTicker(time.Second / time.Duration(rate))
	defer tick.Stop()
	for i := range committed {
		<-tick.C
		if err := db.Exec(context.Background(), benchInsert, fmt.Sprintf("row %d", i)); err != nil {
			b.Fatal(err)
		}
		committed[i] = time.Now()
	}
	reading.Wait()
	delays := make([]time.Duration, len(read))
	for i := range read {
		if read[i].IsZero() {
			b.Fatalf("row %d did not come", i)
		}
		delays[i] = max(0, read[i].Sub(committed[i])) // it may come before the acknowledgement
	}
	return delays
}
