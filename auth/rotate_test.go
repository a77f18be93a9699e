package auth

import (
	"errors"
	"testing"

	"github.com/lestrrat-go/jwx/v2/jwa"
)

// A secret that leaked is taken away because it must not open anything more:
// neither what it signs from now on nor what was remembered.
func TestSetSecrets(t *testing.T) {
	v := verifier(t, Config{Secrets: [][]byte{secretOne}})
	old := sign(t, jwa.HS256, secretOne, nil, `{"user_id":5}`)
	fresh := sign(t, jwa.HS256, secretTwo, nil, `{"user_id":5}`)
	expect := func(token string, good bool) {
		t.Helper()
		for range 2 { // the second may be remembered
			if _, err := v.Verify(t.Context(), token); (err == nil) != good {
				t.Errorf("%v, want good: %t", err, good)
			}
		}
	}
	expect(old, true)
	expect(fresh, false)
	for name, bad := range map[string][][]byte{"none": nil, "short": {secretTwo, []byte("short")}} {
		if err := v.SetSecrets(bad); err == nil {
			t.Errorf("%s was accepted", name)
		}
		expect(old, true)
	}
	if err := v.SetSecrets([][]byte{secretTwo, secretOne}); err != nil {
		t.Fatal(err)
	}
	expect(old, true)
	expect(fresh, true)
	if err := v.SetSecrets([][]byte{secretTwo}); err != nil {
		t.Fatal(err)
	}
	expect(old, false)
	expect(fresh, true)
}

// A key server that moves must not lose anybody: its keys count until the new
// place has answered.
func TestSetKeySetURL(t *testing.T) {
	one, two := newKey(t), newKey(t)
	before, after := newKeyServer(t, public(t, one, "one")), newKeyServer(t, public(t, two, "two"))
	v := verifier(t, Config{KeySetURL: before.URL})
	old := sign(t, jwa.ES256, one, map[string]any{"kid": "one"}, `{"user_id":5}`)
	if _, err := v.Verify(t.Context(), old); err != nil {
		t.Fatal(err)
	}
	if err := v.SetKeySetURL(after.URL); err != nil {
		t.Fatal(err)
	}
	if _, err := v.Verify(t.Context(), old); err != nil {
		t.Errorf("before the new place was read: %v", err)
	}
	if err := v.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := v.Verify(t.Context(), sign(t, jwa.ES256, two, map[string]any{"kid": "two"}, `{"user_id":5}`)); err != nil {
		t.Errorf("a key of the new place: %v", err)
	}
	var refused *Error
	if _, err := v.Verify(t.Context(), old); !errors.As(err, &refused) || refused.Reason != reasonKey {
		t.Errorf("a key of the old place: %v", err)
	}
	if err := verifier(t, Config{Secrets: [][]byte{secretOne}}).SetKeySetURL(after.URL); err == nil {
		t.Error("a key set came while the process runs")
	}
}
