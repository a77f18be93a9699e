package gateway

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/seed-64e334f9/notification-gateway/auth"
	"github.com/seed-64e334f9/notification-gateway/store"
)

// metrics are the measurements of this package; every label is from a closed
// set, and none holds a user.
type metrics struct {
	streams      prometheus.Gauge
	opened       prometheus.Counter
	closed       *prometheus.CounterVec        // reason: endings
	authFailures *prometheus.CounterVec        // reason: auth.Reasons and those of handler.go
	refused      *prometheus.CounterVec        // code: those of errors.go with status 429 or 503
	eventsSent   map[string]prometheus.Counter // by the label event: the event types
	bytesSent    prometheus.Counter
	lag          prometheus.Histogram
	replayed     prometheus.Counter
	resets       *prometheus.CounterVec // reason: those of store.ResetError, unreadable and truncated
	slow         prometheus.Counter
	bursts       prometheus.Counter
	unknown      prometheus.Counter
	groupKeys    prometheus.Gauge
}

func newMetrics(r prometheus.Registerer) *metrics {
	const ns = "notification_gateway"
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Namespace: ns, Name: name, Help: help})
	}
	vector := func(name, help, label string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: ns, Name: name, Help: help}, []string{label})
	}
	m := &metrics{
		streams:      prometheus.NewGauge(prometheus.GaugeOpts{Namespace: ns, Name: "streams", Help: "Open event streams."}),
		opened:       counter("streams_opened_total", "Event streams that were opened."),
		closed:       vector("streams_closed_total", "Event streams that ended, by reason.", "reason"),
		authFailures: vector("auth_failures_total", "Requests whose token or origin was refused, by reason.", "reason"),
		refused:      vector("requests_refused_total", "Requests that got 429 or 503, by the code of the answer.", "code"),
		groupKeys:    prometheus.NewGauge(prometheus.GaugeOpts{Namespace: ns, Name: "group_keys", Help: "Keys beside their recipients' own that open streams stand under, such as groups."}),
		eventsSent:   map[string]prometheus.Counter{},
		bytesSent:    counter("bytes_sent_total", "Bytes of events written to streams."),
		lag: prometheus.NewHistogram(prometheus.HistogramOpts{
			Namespace: ns, Name: "delivery_lag_seconds", Help: "From the capture of a row to its event written; live events only.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 2, 18),
		}),
		replayed: counter("replayed_total", "Notifications that resumed streams got from the log."),
		resets:   vector("resets_total", "Reset events, by reason.", "reason"),
		bursts:   counter("bursts_total", "Streams that got the rest of a batch larger than their buffer from the log."),
		unknown:  counter("feed_unknown_rows_total", "Captured rows of connected users that the view feed does not have for them."),
		slow:     counter("slow_consumers_total", "Streams that were ended because too much waited to be read."),
	}
	sent := vector("events_sent_total", "Events written to streams, by type.", "event")
	r.MustRegister(m.streams, m.opened, m.closed, m.authFailures, m.refused, sent, m.bytesSent, m.lag, m.replayed, m.resets, m.slow, m.bursts, m.unknown, m.groupKeys)
	for _, reason := range endings() {
		m.closed.WithLabelValues(reason)
	}
	for _, name := range []string{eventConnected, eventNotification, eventPing, eventReset, eventError, eventUnread, string(store.ChangeUpdated), string(store.ChangeRemoved), string(store.ChangeRefresh)} {
		m.eventsSent[name] = sent.WithLabelValues(name)
	}
	for _, e := range []*httpError{errStarting(), errDraining(), errFull(), errTooMany(0), errToken(auth.ErrUnavailable), errToken(auth.ErrCRMUnavailable), errCause(nil)} {
		m.refused.WithLabelValues(e.code)
	}
	for _, reason := range append(store.ResetReasons(), resetUnreadable, resetTruncated) {
		m.resets.WithLabelValues(reason)
	}
	for _, reason := range auth.Reasons() {
		m.authFailures.WithLabelValues(reason)
	}
	return m
}

// written counts what a transport has written.
func (m *metrics) written(e *event, n int, err error) {
	m.bytesSent.Add(float64(n))
	if err != nil {
		return
	}
	m.eventsSent[e.name].Inc()
	if !e.captured.IsZero() {
		m.lag.Observe(max(0, time.Since(e.captured).Seconds()))
	}
}
