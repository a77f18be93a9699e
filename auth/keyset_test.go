package auth

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/lestrrat-go/jwx/v2/jwa"
)

// reasonOf is the reason of a refusal, "" of a token that was taken.
func reasonOf(err error) string {
	var refused *Error
	switch {
	case err == nil:
		return ""
	case errors.Is(err, ErrUnavailable):
		return "unavailable"
	case errors.As(err, &refused):
		return refused.Reason
	}
	return err.Error()
}

// An issuer that rotates while its key server is down: 401 would end every
// EventSource for good, though the token is good.
func TestUnknownKeyIsNoRefusalWhileTheServerIsDown(t *testing.T) {
	one, two := newKey(t), newKey(t)
	server := newKeyServer(t, public(t, one, "one"))
	v := verifier(t, Config{KeySetURL: server.URL})
	verify := func(key any, id string) string {
		_, err := v.Verify(t.Context(), sign(t, jwa.ES256, key, map[string]any{"kid": id}, `{"user_id":5}`))
		return reasonOf(err)
	}
	expect := func(when string, known, unknown, otherKey string) {
		t.Helper()
		if a, b, c := verify(one, "one"), verify(two, "two"), verify(two, "one"); a != known || b != unknown || c != otherKey {
			t.Errorf("%s: known %q, unknown %q, another key of a known ID %q; want %q, %q, %q", when, a, b, c, known, unknown, otherKey)
		}
	}
	expect("at first", "", reasonKey, reasonSignature)
	server.fails.Store(true)
	if v.Refresh(t.Context()) == nil {
		t.Fatal("a failing key server is no error")
	}
	for range 5 { // also when the allowance is used up
		expect("while the server fails", "", "unavailable", "unavailable")
	}
	server.fails.Store(false)
	if err := v.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	expect("afterwards", "", reasonKey, reasonSignature)
}

// Somebody else's nonsense must not keep a new key out.
func TestNonsenseKeyDoesNotHideNewOne(t *testing.T) {
	one, two := newKey(t), newKey(t)
	server := newKeyServer(t, public(t, one, "one"))
	v := verifier(t, Config{KeySetURL: server.URL})
	if err := v.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	for range 20 { // bad signatures do not use up what unknown keys need
		v.Verify(t.Context(), sign(t, jwa.ES256, two, map[string]any{"kid": "one"}, `{"user_id":5}`))
	}
	v.Verify(t.Context(), sign(t, jwa.ES256, two, map[string]any{"kid": "nonsense"}, `{"user_id":5}`))
	server.set(t, public(t, one, "one"), public(t, two, "two"))
	if _, err := v.Verify(t.Context(), sign(t, jwa.ES256, two, map[string]any{"kid": "two"}, `{"user_id":5}`)); err != nil {
		t.Errorf("a new key after a nonsense one: %v", err)
	}
	if n := server.asked.Load(); n != 4 {
		t.Errorf("the key server was asked %d times, want 4: at first, a bad signature, a nonsense key, a new key", n)
	}
}

// An issuer that changes the key and keeps its ID must not be refused until the
// next refresh, and forged signatures must not become fetches.
func TestSameKeyIDWithAnotherKey(t *testing.T) {
	one, two := newKey(t), newKey(t)
	server := newKeyServer(t, public(t, one, "one"))
	v := verifier(t, Config{KeySetURL: server.URL})
	if err := v.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	server.set(t, public(t, two, "one"))
	old, fresh := sign(t, jwa.ES256, one, map[string]any{"kid": "one"}, `{"user_id":5}`), sign(t, jwa.ES256, two, map[string]any{"kid": "one"}, `{"user_id":5}`)
	if _, err := v.Verify(t.Context(), old); err != nil {
		t.Errorf("the old key before it is known to be gone: %v", err)
	}
	if _, err := v.Verify(t.Context(), fresh); err != nil {
		t.Errorf("the other key: %v", err)
	}
	for range 50 {
		if _, err := v.Verify(t.Context(), old); reasonOf(err) != reasonSignature {
			t.Fatalf("the old key: %v", err)
		}
	}
	if n := server.asked.Load(); n != 2 {
		t.Errorf("the key server was asked %d times, want 2", n)
	}
}

// One key that we do not know must not lock out everybody who has another
// (RFC 7517 section 5).
func TestUnknownKindOfKeyIsLeftOut(t *testing.T) {
	one := newKey(t)
	server := newKeyServer(t, public(t, one, "one"))
	known := (*server.body.Load())[len(`{"keys":[`):]
	for name, other := range map[string]string{
		"unknown kind": `{"kty":"AKP","alg":"ML-DSA-44","kid":"x","pub":"AAAA"}`, "unknown curve": `{"kty":"EC","crv":"P-999","x":"AA","y":"AA"}`,
		"no kind": `{}`, "no object": `7`, "broken": `{"kty":"RSA","n":"!","e":"AQAB"}`, "for encryption": `{"kty":"oct","k":"AAAA","use":"enc"}`,
	} {
		body := `{"keys":[` + other + "," + known
		server.body.Store(&body)
		v := verifier(t, Config{KeySetURL: server.URL})
		if _, err := v.Verify(t.Context(), sign(t, jwa.ES256, one, map[string]any{"kid": "one"}, `{"user_id":5}`)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if state := v.KeySetState(); state.Keys != 1 || state.LeftOut != 1 {
			t.Errorf("%s: %d keys, %d left out, want one each", name, state.Keys, state.LeftOut)
		}
	}
}

// When many clients come with a new key at once, its server must not be asked
// by each.
func TestWaitingTokensShareOneFetch(t *testing.T) {
	one := newKey(t)
	server := newKeyServer(t, public(t, one, "one"))
	v := verifier(t, Config{KeySetURL: server.URL})
	var all sync.WaitGroup
	for i := range 50 {
		token := sign(t, jwa.ES256, one, map[string]any{"kid": "one"}, fmt.Sprintf(`{"user_id":%d}`, i))
		all.Go(func() {
			if _, err := v.Verify(t.Context(), token); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if n := server.asked.Load(); n > unknownKeyBurst {
		t.Errorf("the key server was asked %d times", n)
	}
}

// Reading the same keys again must not make every client's signature be
// verified again.
func TestSameKeysKeepWhatWasVerified(t *testing.T) {
	server := newKeyServer(t, public(t, newKey(t), "one"))
	v := verifier(t, Config{KeySetURL: server.URL})
	if err := v.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	_, before, _ := v.cache.get("")
	if err := v.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, after, _ := v.cache.get(""); after != before {
		t.Error("the same keys flushed the cache")
	}
}

func TestAllowance(t *testing.T) {
	var a allowance
	now := time.Now()
	for i, step := range []struct {
		after time.Duration
		want  bool
	}{{0, true}, {0, true}, {0, true}, {0, false}, {9 * time.Second, false}, {time.Second, true}, {0, false}, {20 * time.Second, true}, {0, true}, {0, false}, {time.Hour, true}, {0, true}, {0, true}, {0, false}} {
		now = now.Add(step.after)
		if got := a.take(now, 3, 10*time.Second); got != step.want {
			t.Errorf("step %d: %t, want %t", i, got, step.want)
		}
	}
}
