package main

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/pprof"
	"runtime"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// adminHandler serves what the operator and the orchestrator ask. Profiles
// show the memory of the process and cost it CPU, so other
// machines may not take them: away from loopback they need GATEWAY_PPROF.
func (s *service) adminHandler(listener net.Addr) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) {
		w.Write([]byte("ok\n")) // the asker is gone
	})
	mux.HandleFunc("GET /readyz", s.readyz)
	mux.Handle("GET /metrics", promhttp.HandlerFor(s.registry, promhttp.HandlerOpts{Registry: s.registry}))
	if s.config.PProf || onLoopback(listener) {
		mux.HandleFunc("/debug/pprof/", pprof.Index)
		mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
		mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
		mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	}
	return mux
}

// onLoopback reports whether only this machine reaches a listener.
func onLoopback(a net.Addr) bool {
	t, ok := a.(*net.TCPAddr)
	return ok && t.IP.IsLoopback()
}

// unready returns why new streams cannot be served, by part; it is empty when
// they can: the feed is connected, the keys are known, recipients can be looked
// up where they are, there is room, and no drain has begun.
func (s *service) unready() map[string]string {
	reasons := map[string]string{}
	select {
	case <-s.draining:
		reasons["draining"] = "the process is going to stop"
	default:
	}
	if s.gateway.Full() {
		reasons["full"] = "there is no room for more streams: GATEWAY_MAX_STREAMS is near"
	}
	if err := s.feed.Ready(); err != nil {
		reasons["feed"] = err.Error()
	}
	if err := s.identity.Ready(); err != nil {
		reasons["identity"] = err.Error()
	}
	if err := s.verifier.KeysReady(); err != nil {
		reasons["keys"] = err.Error()
	}
	return reasons
}

// readyz answers 200 only while new streams can be served. It says why not, and
// warns of what works less well than it should.
func (s *service) readyz(w http.ResponseWriter, _ *http.Request) {
	reasons := s.unready()
	warnings := map[string]string{}
	if err := s.feed.PollOnly(); err != nil {
		warnings["feed"] = err.Error()
	}
	if err := s.store.PruneBehind(); err != nil {
		warnings["prune"] = err.Error()
	}
	if state := s.verifier.KeySetState(); state.Err != nil && state.Keys > 0 {
		warnings["keys"] = fmt.Sprintf("%v; the %d keys read at %s go on verifying", state.Err, state.Keys, state.Succeeded.UTC().Format(time.RFC3339))
	}
	w.Header().Set("Content-Type", "application/json")
	if len(reasons) > 0 {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	json.NewEncoder(w).Encode(struct { // the asker is gone
		Ready    bool              `json:"ready"`
		Reasons  map[string]string `json:"reasons,omitempty"`
		Warnings map[string]string `json:"warnings,omitempty"`
	}{len(reasons) == 0, reasons, warnings})
}

// buildInfo is the metric build_info: 1, with what was built as labels.
func buildInfo() prometheus.Collector {
	version, commit := buildVersion()
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Namespace: "notification_gateway", Name: "build_info", Help: "1; what was built is in the labels.",
		ConstLabels: prometheus.Labels{"version": version, "commit": commit, "go_version": runtime.Version()},
	}, func() float64 { return 1 })
}

// limits are the settings that alerts and dashboards hold measurements against.
func (c *config) limits() []prometheus.Collector {
	setting := func(name, help string, value float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Namespace: "notification_gateway", Name: name, Help: help}, func() float64 { return value })
	}
	return []prometheus.Collector{
		setting("streams_limit", "GATEWAY_MAX_STREAMS.", float64(c.MaxStreams)),
		setting("retention_seconds", "GATEWAY_RETENTION.", c.Retention.Seconds()),
	}
}
