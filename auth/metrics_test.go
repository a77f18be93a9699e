package auth

import (
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// A key server that died unnoticed locks everybody out at its next rotation.
func TestKeySetState(t *testing.T) {
	server := newKeyServer(t, public(t, newKey(t), "one"), public(t, newKey(t), "two"))
	v := verifier(t, Config{KeySetURL: server.URL})
	registry := prometheus.NewPedanticRegistry()
	v.Register(registry)
	expect := func(keys, failures string) {
		t.Helper()
		if err := testutil.GatherAndCompare(registry, strings.NewReader(`
# HELP notification_gateway_keyset_keys Usable keys of the key set.
# TYPE notification_gateway_keyset_keys gauge
notification_gateway_keyset_keys `+keys+`
# HELP notification_gateway_keyset_refresh_failures_total Times that the key set could not be read; the known keys stay good.
# TYPE notification_gateway_keyset_refresh_failures_total counter
notification_gateway_keyset_refresh_failures_total `+failures+`
`), "notification_gateway_keyset_keys", "notification_gateway_keyset_refresh_failures_total"); err != nil {
			t.Error(err)
		}
	}
	expect("0", "0")
	if err := v.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	expect("2", "0")
	if s := v.KeySetState(); s.Err != nil || time.Since(s.Succeeded) > time.Minute {
		t.Errorf("%+v", s)
	}
	server.Close()
	for range 2 {
		if v.Refresh(t.Context()) == nil {
			t.Fatal("a dead key server is no error")
		}
	}
	expect("2", "2")
	if s := v.KeySetState(); s.Err == nil || s.Succeeded.IsZero() {
		t.Errorf("%+v", s)
	}
	without := verifier(t, Config{Secrets: [][]byte{secretOne}})
	without.Register(registry) // nothing to add
	if s := without.KeySetState(); s != (KeySetState{}) {
		t.Errorf("without a key set: %+v", s)
	}
}
