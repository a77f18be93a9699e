package main

import (
	"bytes"
	"os"
	"strings"
	"testing"

	"github.com/seed-64e334f9/notification-gateway/auth"
	"github.com/seed-64e334f9/notification-gateway/store/storetest"
)

// A reason without advice leaves the operator with a word.
func TestEveryReasonHasItsMend(t *testing.T) {
	for _, reason := range auth.Reasons() {
		if mendToken(reason) == "" {
			t.Errorf("%s has none", reason)
		}
	}
}

// With look-ups the user in the token is not the recipient: the doctor must
// say who is, also for a token that other users of the machine must not see.
func TestCheckTokenSaysWhom(t *testing.T) {
	url := storetest.CRM(t)
	environment(t, url)
	t.Setenv("GATEWAY_RECIPIENT", "lookup")
	if err := open(t, url).Exec(t.Context(), "INSERT INTO auth_user (id, username) VALUES (1, 'alice@example.com')"); err != nil {
		t.Fatal(err)
	}
	input := os.Stdin
	defer func() { os.Stdin = input }()
	for user, want := range map[string]string{"1": "the recipient is 5", "5": "names no active recipient"} {
		token := mint(t, user)
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		w.WriteString(token + "\n")
		w.Close()
		os.Stdin = r
		var out bytes.Buffer
		status := run(t.Context(), []string{"check", "--token", "-"}, &out, &out)
		if text := out.String(); !strings.Contains(text, want) || strings.Contains(text, token) || (status == 0) != (user == "1") {
			t.Errorf("user %s: status %d:\n%s", user, status, text)
		}
	}
	var out, errors bytes.Buffer
	if run(t.Context(), []string{"token", "--user", "7"}, &out, &errors); !strings.Contains(errors.String(), "user_id is 7, until 2") || strings.Count(out.String(), "\n") != 1 {
		t.Errorf("token says %q and %q", &out, &errors)
	}
}

// A token for several claims or a nested one must name whom it was asked for.
func TestTokenForJoinedClaims(t *testing.T) {
	environment(t, storetest.CRM(t))
	t.Setenv("GATEWAY_RECIPIENT", "claim")
	for claim, user := range map[string]string{"org_id,user_id": "3:5", "/user/id": "5"} {
		t.Setenv("GATEWAY_JWT_USER_CLAIM", claim)
		var out bytes.Buffer
		run(t.Context(), []string{"check", "--token", mint(t, user)}, &out, &out)
		if text := out.String(); !strings.Contains(text, "accepted; "+claim+" is "+user+",") {
			t.Errorf("%s:\n%s", claim, text)
		}
	}
	t.Setenv("GATEWAY_JWT_USER_CLAIM", "org_id,user_id")
	var out, stderr bytes.Buffer
	if status := run(t.Context(), []string{"token", "--user", "5"}, &out, &stderr); status != 2 || !strings.Contains(stderr.String(), "--user: ") {
		t.Errorf("a user of one part: %d %s", status, &stderr)
	}
}
