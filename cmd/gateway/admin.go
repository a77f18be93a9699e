package main

import (
	"encoding/json"
	"net/http"
	"net/http/pprof"
	"runtime"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// adminHandler serves what the operator and the orchestrator ask.
func (s *service) adminHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) {
		w.Write([]byte("ok\n")) //nolint:errcheck // the asker is gone
	})
	mux.HandleFunc("GET /readyz", s.readyz)
	mux.Handle("GET /metrics", promhttp.HandlerFor(s.registry, promhttp.HandlerOpts{Registry: s.registry}))
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	return mux
}

// readyz answers 200 only while new streams can be served: the feed is
// connected, the keys are known, and no drain has begun. It says why not, and
// what works less well than it should.
func (s *service) readyz(w http.ResponseWriter, _ *http.Request) {
	reasons := map[string]string{}
	select {
	case <-s.draining:
		reasons["draining"] = "the process is going to stop"
	default:
	}
	if err := s.feed.Ready(); err != nil {
		reasons["feed"] = err.Error()
	}
	if err := s.verifier.KeysReady(); err != nil {
		reasons["keys"] = err.Error()
	}
	notes := map[string]string{}
	if err := s.feed.PollOnly(); err != nil {
		notes["feed"] = err.Error()
	}
	w.Header().Set("Content-Type", "application/json")
	if len(reasons) > 0 {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	json.NewEncoder(w).Encode(struct { //nolint:errcheck // the asker is gone
		Ready   bool              `json:"ready"`
		Reasons map[string]string `json:"reasons,omitempty"`
		Notes   map[string]string `json:"notes,omitempty"`
	}{len(reasons) == 0, reasons, notes})
}

// buildInfo is the metric build_info: 1, with what was built as labels.
func buildInfo() prometheus.Collector {
	version, commit := buildVersion()
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Namespace: "notification_gateway", Name: "build_info", Help: "1; what was built is in the labels.",
		ConstLabels: prometheus.Labels{"version": version, "commit": commit, "go_version": runtime.Version()},
	}, func() float64 { return 1 })
}
