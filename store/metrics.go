package store

import "github.com/prometheus/client_golang/prometheus"

// Metrics are the measurements of this package. The caller gives the
// registerer; no label holds a user.
type Metrics struct {
	batchRows   prometheus.Histogram
	pollSeconds prometheus.Histogram
	wakes       *prometheus.CounterVec // source: one of the wake constants
	unrung      prometheus.Counter
	connected   prometheus.Gauge
	pollOnly    prometheus.Gauge
	reconnects  prometheus.Counter
	replays     *prometheus.CounterVec // source: memory, log
	pruned      prometheus.Counter
	released    prometheus.Counter
	waiting     prometheus.Gauge
	oldest      prometheus.Gauge
	oldestRow   prometheus.Gauge
}

const (
	replayMemory = "memory"
	replayLog    = "log"
)

// NewMetrics registers the measurements of this package; it panics, as the
// registerer does, when they are registered twice.
func NewMetrics(r prometheus.Registerer) *Metrics {
	const ns = "notification_gateway"
	m := &Metrics{
		batchRows: prometheus.NewHistogram(prometheus.HistogramOpts{
			Namespace: ns, Name: "feed_batch_rows", Help: "Log rows that one poll brought, empty polls left out.",
			Buckets: prometheus.ExponentialBuckets(1, 4, 8),
		}),
		pollSeconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Namespace: ns, Name: "feed_poll_seconds", Help: "Time of one poll of the log.",
			Buckets: prometheus.ExponentialBuckets(0.000125, 2, 15),
		}),
		wakes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: ns, Name: "feed_wakes_total", Help: "Polls by what caused them.",
		}, []string{"source"}),
		unrung: prometheus.NewCounter(prometheus.CounterOpts{
			Namespace: ns, Name: "feed_unrung_rows_total", Help: "Log rows that only the fallback poll found: two-phase commits, or NOTIFY that does not arrive.",
		}),
		connected: prometheus.NewGauge(prometheus.GaugeOpts{
			Namespace: ns, Name: "feed_connected", Help: "1 while the feed listens and polls, else 0.",
		}),
		pollOnly: prometheus.NewGauge(prometheus.GaugeOpts{
			Namespace: ns, Name: "feed_poll_only", Help: "1 while LISTEN does not work, so that the log is only polled, else 0.",
		}),
		reconnects: prometheus.NewCounter(prometheus.CounterOpts{
			Namespace: ns, Name: "feed_reconnects_total", Help: "Connections of the feed that ended and were made anew.",
		}),
		replays: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: ns, Name: "replay_pages_total", Help: "Pages of replays by where their log rows came from.",
		}, []string{"source"}),
		released: prometheus.NewCounter(prometheus.CounterOpts{
			Namespace: ns, Name: "due_rows_released_total", Help: "Notifications that this replica moved into the log because they became due.",
		}),
		waiting: prometheus.NewGauge(prometheus.GaugeOpts{
			Namespace: ns, Name: "due_rows_waiting", Help: "Notifications whose time lies ahead, up to 100,000; counted once a minute, the same in each replica.",
		}),
		pruned: prometheus.NewCounter(prometheus.CounterOpts{
			Namespace: ns, Name: "log_rows_pruned_total", Help: "Log rows that were removed because they are older than the retention.",
		}),
		oldestRow: prometheus.NewGauge(prometheus.GaugeOpts{
			Namespace: ns, Name: "log_oldest_row_seconds", Help: "Age of the log's first row; well past the retention pruning has fallen behind.",
		}),
		oldest: prometheus.NewGauge(prometheus.GaugeOpts{
			Namespace: ns, Name: "oldest_transaction_seconds", Help: "How long the oldest running transaction of the cluster has been seen to run; past the retention the log cannot be pruned.",
		}),
	}
	r.MustRegister(m.batchRows, m.pollSeconds, m.wakes, m.unrung, m.connected, m.pollOnly, m.reconnects, m.replays, m.pruned, m.released, m.waiting, m.oldest, m.oldestRow)
	for _, source := range []string{wakeReconnect, wakeNotify, wakeTimeout, wakeMore, wakePoll, wakeSettle, wakeRetry, wakeDue} {
		m.wakes.WithLabelValues(source)
	}
	for _, source := range []string{replayMemory, replayLog} {
		m.replays.WithLabelValues(source)
	}
	return m
}
