//go:build e2e

package main

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/seed-64e334f9/notification-gateway/auth"
	"github.com/seed-64e334f9/notification-gateway/store/storetest"
)

// startDjango runs testdata/crm.py, and returns its address.
func startDjango(t *testing.T) string {
	t.Helper()
	cmd := exec.Command("/usr/bin/python3", "testdata/crm.py") // Debian's, which has Django
	cmd.Stderr = os.Stderr
	input, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	output, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { input.Close(); cmd.Wait() })
	port, err := bufio.NewReader(output).ReadString('\n')
	if err != nil {
		t.Fatalf("Django does not start: %v", err)
	}
	return "http://127.0.0.1:" + strings.TrimSpace(port)
}

// browser is somebody's cookies at crm.example.com, where the CRM and the gateway
// both are.
type browser struct {
	*testing.T
	client *http.Client
}

func newBrowser(t *testing.T) browser {
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return browser{t, &http.Client{Jar: jar, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
}

// get asks one of the servers of crm.example.com. The jar goes by 127.0.0.1, of
// which all ports are one site to cookies.
func (b browser) get(url string, headers ...string) *http.Response {
	b.Helper()
	req, err := http.NewRequestWithContext(b.Context(), http.MethodGet, url, nil)
	if err != nil {
		b.Fatal(err)
	}
	req.Host = "crm.example.com"
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := b.client.Do(req)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { resp.Body.Close() })
	return resp
}

func (b browser) text(url string) string {
	b.Helper()
	resp := b.get(url)
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		b.Fatalf("%s: %d %s, %v", url, resp.StatusCode, text, err)
	}
	return string(text)
}

const streamPath = "/api/notifications/stream/"

// Django's own session and Django REST framework's own token must open a stream,
// and close it, with no JWT anywhere.
func TestE2ELoginByDjango(t *testing.T) {
	database := storetest.CRM(t)
	environment(t, database)
	crm := startDjango(t)
	for name, c := range map[string]struct{ path, field string }{"login_required": {"/me/", "/id"}, "DRF": {"/drf/me/", "/user/pk"}} {
		t.Run(name, func(t *testing.T) {
			environment(t, database)
			os.Unsetenv("GATEWAY_JWT_SECRET")
			t.Setenv("GATEWAY_AUTH_URL", crm+c.path)
			t.Setenv("GATEWAY_AUTH_FIELD", c.field)
			t.Setenv("GATEWAY_COOKIE_INSECURE", "true")
			t.Setenv("GATEWAY_RECIPIENT", "claim")
			t.Setenv("GATEWAY_RECIPIENT_CHECK", "1s")
			g := serveInTest(t)
			g.readyz(t, 200)
			alice := newBrowser(t)
			if resp := alice.get(g.public + streamPath); resp.StatusCode != http.StatusUnauthorized {
				t.Errorf("without credentials: %d", resp.StatusCode)
			}
			if resp := alice.get(g.public+streamPath, "Cookie", "sessionid=nonsense"); resp.StatusCode != http.StatusUnauthorized {
				t.Errorf("with a session that Django does not know: %d", resp.StatusCode)
			}
			alice.text(crm + "/login/?user=5")
			resp := alice.get(g.public + streamPath)
			if resp.StatusCode != http.StatusOK {
				t.Fatalf("signed in: %d", resp.StatusCode)
			}
			lines := bufio.NewScanner(resp.Body)
			until(t, lines, `"user":5`)
			insertRow(t, open(t, database), "by a session of Django")
			until(t, lines, "by a session of Django")

			// The stream is asked about each second, and goes on while she is signed in.
			before, err := strconv.Atoi(alice.text(crm + "/asked/"))
			if err != nil {
				t.Fatal(err)
			}
			alice.text(fmt.Sprintf("%s/asked/?from=%d", crm, before+2))
			insertRow(t, open(t, database), "still signed in")
			until(t, lines, "still signed in")

			thief := newBrowser(t) // who has her cookies of before
			for _, address := range []string{crm + "/", g.public + streamPath} {
				u, err := url.Parse(address)
				if err != nil {
					t.Fatal(err)
				}
				thief.client.Jar.SetCookies(u, alice.client.Jar.Cookies(u))
			}
			alice.text(crm + "/logout/")
			until(t, lines, `"code":"revoked"`)
			if resp := alice.get(g.public + streamPath); resp.StatusCode != http.StatusUnauthorized {
				t.Errorf("signed out: %d", resp.StatusCode)
			}
			if err := open(t, database).Exec(t.Context(), "SELECT notification_gateway.disconnect('5', 'signed out')"); err != nil {
				t.Fatal(err)
			}
			if resp := thief.get(g.public + streamPath); resp.StatusCode != http.StatusUnauthorized {
				t.Errorf("her cookies of before, after disconnect(): %d", resp.StatusCode)
			}

			if name == "DRF" {
				bob := newBrowser(t)
				token := bob.text(crm + "/token/?user=7")
				if resp := bob.get(g.public+streamPath, "Authorization", "Token nonsense"); resp.StatusCode != http.StatusUnauthorized {
					t.Errorf("a token that DRF does not know: %d", resp.StatusCode)
				}
				resp := bob.get(g.public+streamPath, "Authorization", "Token "+token)
				if resp.StatusCode != http.StatusOK {
					t.Fatalf("with DRF's token: %d", resp.StatusCode)
				}
				until(t, bufio.NewScanner(resp.Body), `"user":7`)
			}
			if text := g.log.String(); strings.Contains(text, "sessionid") || strings.Contains(text, "Token ") {
				t.Errorf("the log shows credentials: %s", text)
			}
		})
	}
}

// SimpleJWT's tokens must be taken with nothing but its key, and its refresh token,
// which lives for days and signs in to everything, must not.
func TestE2ETokenBySimpleJWT(t *testing.T) {
	environment(t, storetest.CRM(t))
	t.Setenv("GATEWAY_RECIPIENT", "claim")
	crm := startDjango(t)
	g := serveInTest(t)
	g.readyz(t, 200)
	alice := newBrowser(t)
	access, refresh, _ := strings.Cut(alice.text(crm+"/jwt/?user=5"), " ")
	until(t, g.stream(t, access, ""), `"user":5`)
	if resp := alice.get(g.public+streamPath, "Authorization", "Bearer "+refresh); resp.StatusCode != http.StatusUnauthorized {
		t.Errorf("a refresh token: %d", resp.StatusCode)
	}
}

// When a replica restarts everybody reconnects at once. The CRM must not feel it.
func TestE2ELoginStorm(t *testing.T) {
	const logins = 10_000
	var asked atomic.Int32
	crm := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		c, err := r.Cookie("sessionid")
		if err != nil {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		fmt.Fprintf(w, `{"id":%s}`, c.Value)
	}))
	t.Cleanup(crm.Close)
	environment(t, storetest.CRM(t))
	os.Unsetenv("GATEWAY_JWT_SECRET")
	t.Setenv("GATEWAY_AUTH_URL", crm.URL)
	t.Setenv("GATEWAY_RECIPIENT", "claim")
	transport := &http.Transport{MaxIdleConnsPerHost: 200}
	t.Cleanup(transport.CloseIdleConnections)
	sessions := make([]string, logins)
	storm := func(g *instance, withSession bool) (took time.Duration, questions int32) {
		began, before := time.Now(), asked.Load()
		var next atomic.Int32
		var workers sync.WaitGroup
		for range 200 {
			workers.Go(func() {
				for i := int(next.Add(1)) - 1; i < logins; i = int(next.Add(1)) - 1 {
					req, err := http.NewRequestWithContext(t.Context(), http.MethodHead, g.public+streamPath, nil)
					if err != nil {
						t.Error(err)
						return
					}
					req.Host = "crm.example.com"
					req.Header.Set("Cookie", fmt.Sprintf("sessionid=%d", i+1))
					if withSession {
						req.Header.Add("Cookie", auth.SessionCookie+"="+sessions[i])
					}
					resp, err := transport.RoundTrip(req)
					if err != nil || resp.StatusCode != http.StatusOK {
						t.Errorf("login %d: %v, %v", i, resp, err)
						return
					}
					resp.Body.Close()
					for _, c := range resp.Cookies() {
						if c.Name == auth.SessionCookie {
							sessions[i] = c.Value
						}
					}
				}
			})
		}
		workers.Wait()
		return time.Since(began), asked.Load() - before
	}
	one := serveInTest(t)
	one.readyz(t, 200)
	one.log.await(t, "session key")
	took, n := storm(one, false)
	t.Logf("%d logins for the first time: %d questions to the CRM, %v", logins, n, took)
	if n != logins {
		t.Errorf("%d questions for %d logins", n, logins)
	}
	one.stop()
	two := serveInTest(t)
	two.readyz(t, 200)
	two.log.await(t, "session key")
	took, n = storm(two, true)
	t.Logf("%d reconnects at another replica: %d questions to the CRM, %v", logins, n, took)
	if n != 0 {
		t.Errorf("%d questions to the CRM by reconnects", n)
	}
}
