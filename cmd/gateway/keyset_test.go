package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
)

// A dead key server must be seen in /readyz before its next rotation locks
// everybody out, and must not take the replica out of service meanwhile.
func TestDeadKeyServerShowsInReadyz(t *testing.T) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	point, err := private.PublicKey.Bytes() // 4, X, Y
	if err != nil {
		t.Fatal(err)
	}
	encode := base64.RawURLEncoding.EncodeToString
	keys := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, `{"keys":[{"kty":"EC","crv":"P-256","kid":"one","x":"%s","y":"%s"}]}`, encode(point[1:33]), encode(point[33:]))
	}))
	defer keys.Close()
	environment(t, "postgres://postgres@127.0.0.1:1/x")
	os.Unsetenv("GATEWAY_JWT_SECRET")
	t.Setenv("GATEWAY_JWKS_URL", keys.URL+"/hush")
	c, err := readConfig()
	if err == nil {
		err = c.validateServe()
	}
	if err != nil {
		t.Fatal(err)
	}
	s, err := assemble(t.Context(), c, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer s.store.Close()
	get := func(path string) string {
		w := httptest.NewRecorder()
		s.adminHandler(nil).ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
		return w.Body.String()
	}
	if body := get("/readyz"); !strings.Contains(body, `"keys":"the key set is not available"`) {
		t.Errorf("before the key set was read: %s", body)
	}
	if err := s.verifier.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	if body := get("/readyz"); strings.Contains(body, "keys") {
		t.Errorf("with the key server alive: %s", body)
	}
	keys.Close()
	if s.verifier.Refresh(t.Context()) == nil {
		t.Fatal("a dead key server is no error")
	}
	body := get("/readyz")
	if !strings.Contains(body, `"warnings":{"keys":"read the key set: `) || !strings.Contains(body, "the 1 keys") ||
		strings.Contains(body, "not available") || strings.Contains(body, "hush") {
		t.Errorf("with the key server dead: %s", body)
	}
	for _, want := range []string{"keyset_keys 1\n", "keyset_refresh_failures_total 1\n", "keyset_last_success_timestamp_seconds 1"} {
		if !strings.Contains(get("/metrics"), "notification_gateway_"+want) {
			t.Errorf("there is no %s", want)
		}
	}
}
