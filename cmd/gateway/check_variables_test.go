package main

import (
	"bytes"
	"os"
	"strings"
	"testing"

	"github.com/seed-64e334f9/notification-gateway/auth"
	"github.com/seed-64e334f9/notification-gateway/store/storetest"
)

// What a newer program reads otherwise must be found by its check, before it is
// rolled out.
func TestCheckFindsWhatAnUpgradeChanges(t *testing.T) {
	url := storetest.CRM(t)
	for _, c := range []struct {
		name, variable, value string
		args                  []string
		status                int
		want                  []string
	}{
		{"an empty variable", "GATEWAY_ADMIN_ADDR", " ", nil, 0, []string{"✔ variables", "set to nothing, so that the default holds: GATEWAY_ADMIN_ADDR"}},
		{"a misspelt variable", "GATEWAY_RECIPIENTS", "lookup", nil, 0, []string{"✔ variables", "not read: GATEWAY_RECIPIENTS"}},
		{"a value that serve refuses", "GATEWAY_ALLOWED_ORIGINS", "crm.example", nil, 1, []string{"✘ variables", "GATEWAY_ALLOWED_ORIGINS"}},
		{"key material as a secret", "GATEWAY_JWT_SECRET", "-----BEGIN PUBLIC KEY-----\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE\n-----END PUBLIC KEY-----", nil, 1, []string{"✘ keys", "GATEWAY_JWT_SECRET: "}},
		{"a short secret", "GATEWAY_JWT_SECRET", "short", nil, 1, []string{"✘ keys", "GATEWAY_JWT_SECRET: "}},
		{"a token without exp", "", "", []string{"--token", withoutExp(t)}, 1, []string{"✘ token", "no_expiry", "GATEWAY_JWT_REQUIRE_EXP=false"}},
		{"nothing", "", "", nil, 0, []string{"✔ variables", "gateway serve takes them"}},
	} {
		environment(t, url)
		if c.variable != "" {
			t.Setenv(c.variable, c.value)
		}
		var out bytes.Buffer
		status := run(t.Context(), append([]string{"check"}, c.args...), &out, &out)
		for _, want := range c.want {
			if status != c.status || !strings.Contains(out.String(), want) {
				t.Errorf("%s: status %d, want %d and %q:\n%s", c.name, status, c.status, want, &out)
			}
		}
		os.Unsetenv("GATEWAY_RECIPIENTS")
	}
}

// withoutExp mints a token that is good for ever.
func withoutExp(t *testing.T) string {
	t.Helper()
	token, err := auth.Mint([]byte(testSecret), map[string]any{"user_id": 5, "token_type": "access"})
	if err != nil {
		t.Fatal(err)
	}
	return token
}
