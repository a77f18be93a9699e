package auth

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// The values of the label result of crm_requests_total.
const (
	resultOK          = "ok"
	resultRefused     = "refused"
	resultUnavailable = "unavailable"
)

type crmMetrics struct {
	requests *prometheus.CounterVec // result
	reused   *prometheus.CounterVec // source: memory or session
	seconds  prometheus.Histogram
}

func newCRMMetrics() *crmMetrics {
	const ns = "notification_gateway"
	m := &crmMetrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: ns, Name: "crm_requests_total", Help: "Questions to the CRM whom credentials name, by result.",
		}, []string{"result"}),
		reused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: ns, Name: "crm_answers_reused_total", Help: "Requests that needed no question to the CRM, by where the answer came from.",
		}, []string{"source"}),
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Namespace: ns, Name: "crm_request_seconds", Help: "How long the CRM took to say whom credentials name.",
			Buckets: prometheus.ExponentialBuckets(0.001, 2, 13),
		}),
	}
	for _, result := range []string{resultOK, resultRefused, resultUnavailable} {
		m.requests.WithLabelValues(result)
	}
	for _, source := range []string{"memory", "session"} {
		m.reused.WithLabelValues(source)
	}
	return m
}

func (m *crmMetrics) count(result string) { m.requests.WithLabelValues(result).Inc() }

// Register adds the metrics of the CRM to a registerer. It panics, as the
// registerer does, when they are there already.
func (c *CRM) Register(r prometheus.Registerer) {
	r.MustRegister(c.metrics.requests, c.metrics.reused, c.metrics.seconds, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Namespace: "notification_gateway", Name: "crm_answers_remembered", Help: "Answers of the CRM that are remembered for seconds.",
	}, func() float64 { return float64(c.answers.remembered(time.Now())) }))
}
