package auth

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// KeySetState says how fresh the key set is. Its zero value is that of a
// Verifier without one.
type KeySetState struct {
	Keys      int       // usable ones that are known
	LeftOut   int       // keys of the set that cannot be used: of an unknown kind, not for signatures, too short
	Succeeded time.Time // the last refresh that did; zero none
	Failures  uint64    // refreshes that did not, in all
	Err       error     // the last refresh's; nil when it succeeded
}

// KeySetState returns the state of now. While Err is set and there are Keys,
// those go on verifying.
func (v *Verifier) KeySetState() KeySetState {
	if v.keys == nil {
		return KeySetState{}
	}
	state := v.keys.state.Load()
	out := KeySetState{Succeeded: state.succeeded, Failures: state.failures, LeftOut: state.leftOut, Err: state.err}
	if keys := v.keys.keys.Load(); keys != nil {
		out.Keys = len(*keys)
	}
	return out
}

// Register adds the metrics of the key set, if there is one, to a registerer.
// It panics, as the registerer does, when they are there already.
func (v *Verifier) Register(r prometheus.Registerer) {
	if v.keys == nil {
		return
	}
	const ns = "notification_gateway"
	r.MustRegister(
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Namespace: ns, Name: "keyset_keys", Help: "Usable keys of the key set.",
		}, func() float64 { return float64(v.KeySetState().Keys) }),
		prometheus.NewCounterFunc(prometheus.CounterOpts{
			Namespace: ns, Name: "keyset_refresh_failures_total", Help: "Times that the key set could not be read; the known keys stay good.",
		}, func() float64 { return float64(v.KeySetState().Failures) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Namespace: ns, Name: "keyset_last_success_timestamp_seconds", Help: "When the key set was last read; 0 never.",
		}, func() float64 {
			at := v.KeySetState().Succeeded
			if at.IsZero() {
				return 0
			}
			return float64(at.UnixMilli()) / 1000
		}),
	)
}
