package auth

import (
	"testing"
	"time"
)

// A token for trying out must name whom it was asked for, whatever the claims are
// called: one that names nobody sends people to look elsewhere.
func TestClaims(t *testing.T) {
	for claim, user := range map[string]string{"user_id": "5", "sub": "u-5", "/user/id": "7", "org_id,user_id": "acme:5", "/a/b,/a/c,d": "1:2:x"} {
		claims, err := Claims(claim, user, time.Hour)
		if err != nil {
			t.Errorf("%s: %v", claim, err)
			continue
		}
		token, err := Mint(secretOne, claims)
		if err != nil {
			t.Fatal(err)
		}
		v, err := New(Config{Secrets: [][]byte{secretOne}, UserClaim: claim})
		if err != nil {
			t.Fatal(err)
		}
		if id, err := v.Verify(t.Context(), token); err != nil || id.Subject != user {
			t.Errorf("%s: %q, %v, want %q", claim, id.Subject, err, user)
		}
	}
	for claim, user := range map[string]string{"a,b": "5", "a,b,c": "1:2", "a,d": "5:", "x": "", "/a,/a/b": "1:2"} {
		if claims, err := Claims(claim, user, time.Hour); err == nil {
			t.Errorf("%s=%q: %v", claim, user, claims)
		}
	}
}
