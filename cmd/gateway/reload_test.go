package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"log/slog"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-64e334f9/notification-gateway/auth"
)

const otherSecret = "another secret of the tests with 32 bytes and more"

// A rotated secret that needs a restart would cut every stream of the CRM; a
// spoilt file must lose nobody, and must not show in the log.
func TestSecretFileIsReadAgain(t *testing.T) {
	file := filepath.Join(t.TempDir(), "secret")
	write := func(content string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(testSecret)
	environment(t, "postgres://postgres@127.0.0.1:1/x")
	os.Unsetenv("GATEWAY_JWT_SECRET")
	t.Setenv("GATEWAY_JWT_SECRET_FILE", file)
	c, err := readConfig()
	if err == nil {
		err = c.validateTokens()
	}
	if err != nil {
		t.Fatal(err)
	}
	tokens := map[string]string{}
	for _, secret := range []string{testSecret, otherSecret} {
		if tokens[secret], err = auth.Mint([]byte(secret), map[string]any{"user_id": 5, "exp": time.Now().AddDate(100, 0, 0).Unix()}); err != nil {
			t.Fatal(err)
		}
	}
	synctest.Test(t, func(t *testing.T) {
		verifier, err := auth.New(auth.Config{Secrets: c.secrets, UserClaim: "user_id"})
		if err != nil {
			t.Fatal(err)
		}
		log := &logBuffer{}
		r := &reloader{logger: slog.New(slog.NewTextHandler(log, nil)), files: c.watchSecrets(verifier)}
		hangup := make(chan os.Signal)
		r.hangup = hangup
		go r.run(t.Context())
		time.Sleep(reloadInterval / 2) // never at the same time as the reloader
		for _, step := range []struct {
			name, content, told string
			old, fresh          bool
		}{
			{"unchanged", testSecret, "", true, false},
			{"both", testSecret + "," + otherSecret, "taken over", true, true},
			{"short", otherSecret + ",hush", "at least 32 bytes", true, true},
			{"a public key", "-----BEGIN PUBLIC KEY-----\nhush,hush\n", "PEM", true, true},
			{"a JWK Set", `{"keys":[{"kty":"RSA","n":"` + otherSecret + `"}]}`, "JWK", true, true},
			{"a mark of its editor", "\ufeff" + otherSecret, "byte order mark", true, true},
			{"quotes", `"` + otherSecret + `"`, "quotes", true, true},
			{"one a line", testSecret + "\n" + otherSecret, "line end", true, true},
			{"half written", testSecret[:40], "half written", true, true},
			{"empty", "\n", "empty", true, true},
			{"endless", strings.Repeat("x", maxFile+1), "more than", true, true},
			{"gone", "", "no such file", true, true},
			{"the new one", otherSecret, "taken over", false, true},
		} {
			synctest.Wait()
			before := len(log.String())
			write(step.content)
			if step.name == "gone" {
				os.Remove(file)
			}
			time.Sleep(3 * reloadInterval) // the bubble's clock
			synctest.Wait()
			for secret, good := range map[string]bool{testSecret: step.old, otherSecret: step.fresh} {
				if _, err := verifier.Verify(t.Context(), tokens[secret]); (err == nil) != good {
					t.Errorf("%s: %.10s…: %v, want good: %t", step.name, secret, err, good)
				}
			}
			text := log.String()[before:]
			if !strings.Contains(text, step.told) || strings.Count(text, "\n") > 1 || (step.told == "") != (text == "") {
				t.Errorf("%s: the log says %q, want one line with %q", step.name, text, step.told)
			}
			if strings.Contains(text, "hush") || strings.Contains(text, otherSecret) {
				t.Errorf("%s: the log shows the file: %s", step.name, text)
			}
		}
		// A file that is being written is left alone until it stays as it is;
		// SIGHUP says that it is complete.
		before := len(log.String())
		for i := range 20 {
			write(otherSecret + "," + testSecret[:40] + strings.Repeat("x", i))
			time.Sleep(settleInterval * 9 / 10)
			synctest.Wait()
		}
		if text := log.String()[before:]; text != "" {
			t.Errorf("while it is written the log says %q", text)
		}
		write(otherSecret + "," + testSecret)
		hangup <- syscall.SIGHUP
		synctest.Wait()
		if _, err := verifier.Verify(t.Context(), tokens[testSecret]); err != nil {
			t.Errorf("after SIGHUP: %v", err)
		}
		if text := log.String()[before:]; !strings.Contains(text, "SIGHUP") || strings.Count(text, "taken over") != 1 {
			t.Errorf("after SIGHUP the log says %q", text)
		}
	})
}

// A public key in a file rotates without a restart, too.
func TestKeysFileIsReadAgain(t *testing.T) {
	file := filepath.Join(t.TempDir(), "keys.pem")
	write := func() {
		t.Helper()
		private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		der, err := x509.MarshalPKIXPublicKey(private.Public())
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write()
	environment(t, "postgres://postgres@127.0.0.1:1/x")
	os.Unsetenv("GATEWAY_JWT_SECRET")
	t.Setenv("GATEWAY_JWKS_FILE", file)
	c, err := readConfig()
	if err == nil {
		err = c.validateTokens()
	}
	if err != nil {
		t.Fatal(err)
	}
	verifier, err := auth.New(c.verifier(slog.New(slog.DiscardHandler)))
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	r := &reloader{logger: slog.New(slog.NewTextHandler(&log, nil)), files: c.watchSecrets(verifier)}
	r.look(r.files[0], false)
	write()
	r.look(r.files[0], true)
	if text := log.String(); !strings.Contains(text, "taken over") || !strings.Contains(text, "GATEWAY_JWKS_FILE") {
		t.Errorf("the log says %q", text)
	}
}

// A connection string cannot be taken over while the process runs: an
// operator who believes that it was would wait for the old password to fail.
func TestDatabaseFileChangeIsTold(t *testing.T) {
	file := filepath.Join(t.TempDir(), "url")
	c := config{DatabaseURL: "postgres://u:hush@h/x", files: map[string]string{"DATABASE_URL": file}}
	if err := os.WriteFile(file, []byte("postgres://u:hush2@h/x"), 0o600); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	r := &reloader{logger: slog.New(slog.NewTextHandler(&log, nil))}
	r.look(c.watchSecrets(nil)[0], false)
	if text := log.String(); !strings.Contains(text, "DATABASE_URL_FILE") || !strings.Contains(text, "restart") || strings.Contains(text, "hush") {
		t.Errorf("the log says %q", text)
	}
}

// A renewed certificate must be served without a restart, and half a renewal
// (the certificate is there, its key not yet) must not take the old one away.
func TestCertificateIsReadAgain(t *testing.T) {
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "cert"), filepath.Join(dir, "key")
	renew := func(serial int64, files ...string) {
		t.Helper()
		private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		template := &x509.Certificate{SerialNumber: big.NewInt(serial), DNSNames: []string{"gateway"}, NotAfter: time.Now().Add(time.Hour)}
		der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
		if err != nil {
			t.Fatal(err)
		}
		pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
		if err != nil {
			t.Fatal(err)
		}
		blocks := map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: pkcs8}}
		for _, file := range files {
			if err := os.WriteFile(file, pem.EncodeToMemory(blocks[file]), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	renew(1, cert, key)
	environment(t, "postgres://postgres@127.0.0.1:1/x")
	t.Setenv("GATEWAY_TLS_CERT", cert)
	t.Setenv("GATEWAY_TLS_KEY", key)
	settings, pair, err := watchTLS(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	r := &reloader{logger: slog.New(slog.DiscardHandler)}
	expect := func(serial int64) {
		t.Helper()
		r.look(pair, false)
		r.look(pair, false) // it has stayed the same
		served, err := settings.GetCertificate(nil)
		if err != nil || served.Leaf.SerialNumber.Int64() != serial {
			t.Errorf("serves %v, %v, want %d", served.Leaf.SerialNumber, err, serial)
		}
	}
	expect(1)
	renew(2, cert)
	expect(1)
	renew(3, cert, key)
	expect(3)
	os.Remove(key)
	expect(3)

	renew(4, cert, key)
	g := serveInTest(t) // the same files, through the whole program
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	resp, err := client.Get(strings.Replace(g.public, "http:", "https:", 1) + "/")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if n := resp.TLS.PeerCertificates[0].SerialNumber.Int64(); n != 4 {
		t.Errorf("certificate %d is served, want 4", n)
	}
}
