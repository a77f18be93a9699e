package main

import (
	"bufio"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/seed-64e334f9/notification-gateway/auth"
	"github.com/seed-64e334f9/notification-gateway/store/storetest"
)

// mintUntil makes a token that ends at a moment. name tells it from others.
func mintUntil(t *testing.T, user, name string, end time.Time) string {
	t.Helper()
	token, err := auth.Mint([]byte(testSecret), map[string]any{"user_id": user, "token_type": "access", "jti": name, "exp": end.Unix()})
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// cookieStream opens a stream with the session cookie.
func (i *instance) cookieStream(t *testing.T, token string) *bufio.Scanner {
	t.Helper()
	resp := i.session(t, http.MethodGet, "stream/", token, "")
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("the stream is %s", resp.Status)
	}
	lines := bufio.NewScanner(resp.Body)
	until(t, lines, "Connected")
	return lines
}

// session sends a request with a cookie, a Bearer token or both.
func (i *instance) session(t *testing.T, method, path, cookie, bearer string) *http.Response {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, i.public+"/api/notifications/"+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if cookie != "" {
		req.AddCookie(&http.Cookie{Name: "notifications_token", Value: cookie})
	}
	if bearer != "" {
		req.Header.Set("Authorization", "Bearer "+bearer)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	return resp
}

// A session lives and ends on every replica: a stream goes on past the end of the
// token that was replaced, and ends when the browser signs out at another replica.
func TestSessionsReachEveryReplica(t *testing.T) {
	url := storetest.CRM(t)
	environment(t, url)
	t.Setenv("GATEWAY_JWT_LEEWAY", "0s")
	t.Setenv("GATEWAY_PING_INTERVAL", "1s")
	db := open(t, url)
	gateways := []*instance{serveInTest(t), serveInTest(t)}
	end := time.Now().Add(8 * time.Second)
	old, renewed := mintUntil(t, "5", "old", end), mintUntil(t, "5", "renewed", end.Add(time.Hour))
	var byCookie, byToken []*bufio.Scanner
	for _, g := range gateways {
		g.readyz(t, http.StatusOK)
		byCookie = append(byCookie, g.cookieStream(t, old))
		byToken = append(byToken, g.stream(t, old, ""))
	}
	if resp := gateways[0].session(t, http.MethodPost, "session/", old, renewed); resp.StatusCode != http.StatusNoContent {
		t.Fatalf("the renewal is %s", resp.Status)
	}
	for _, lines := range byToken { // the old token has ended
		until(t, lines, `"code":"token_expired"`)
	}
	insertRow(t, db, "after the old token's end")
	for _, lines := range byCookie {
		until(t, lines, "after the old token's end")
	}
	other := gateways[0].stream(t, renewed, "")
	until(t, other, "Connected")
	began := time.Now()
	if resp := gateways[1].session(t, http.MethodDelete, "session/", renewed, ""); resp.StatusCode != http.StatusNoContent {
		t.Fatalf("the sign-out is %s", resp.Status)
	}
	for _, lines := range byCookie {
		until(t, lines, `"code":"signed_out"`)
	}
	t.Logf("signed out at both after %v", time.Since(began))
	insertRow(t, db, "for a stream without the cookie")
	until(t, other, "for a stream without the cookie")
	for _, g := range gateways {
		for _, token := range []string{old, renewed} {
			if strings.Contains(g.log.String(), token) {
				t.Error("a token is in the log")
			}
		}
	}
}
