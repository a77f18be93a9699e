package gateway

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/seed-64e334f9/notification-gateway/auth"
)

// fakeCRM is a CRM's endpoint: it takes the cookie sessionid for its user.
type fakeCRM struct {
	*httptest.Server
	asked  atomic.Int32
	status atomic.Int32 // instead of 200
	names  atomic.Pointer[string]
	hangs  atomic.Pointer[hanging]
}

// hanging is a CRM that does not answer before it is released.
type hanging struct{ asked, release chan struct{} }

// fakeDisconnects says of everybody when they were disconnected.
type fakeDisconnects struct {
	ago  atomic.Int64 // zero: never
	err  atomic.Bool
	keys atomic.Pointer[[]string] // that were asked for last
}

func (f *fakeDisconnects) SinceDisconnect(_ context.Context, keys []string, _ time.Duration) (time.Duration, bool, error) {
	f.keys.Store(&keys)
	if f.err.Load() {
		return 0, false, errors.New("Postgres is away")
	}
	ago := time.Duration(f.ago.Load())
	return ago, ago != 0, nil
}

func newFakeCRM(t *testing.T) (*fakeCRM, *fakeDisconnects, func(*Config, *fakeVerifier)) {
	t.Helper()
	f, disconnects := &fakeCRM{}, &fakeDisconnects{}
	f.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f.asked.Add(1)
		if h := f.hangs.Load(); h != nil {
			h.asked <- struct{}{}
			<-h.release
		}
		if status := f.status.Load(); status != 0 {
			w.WriteHeader(int(status))
			return
		}
		name := ""
		if c, err := r.Cookie("sessionid"); err == nil {
			name = c.Value
		}
		if other := f.names.Load(); other != nil {
			name = *other
		}
		fmt.Fprintf(w, `{"id":%q}`, name)
	}))
	t.Cleanup(f.Close)
	return f, disconnects, func(c *Config, _ *fakeVerifier) {
		crm, err := auth.NewCRM(auth.CRMConfig{URL: f.URL, Field: "/id", Cookies: []string{"sessionid"}, Keys: true})
		if err != nil {
			t.Fatal(err)
		}
		crm.SetSessionKey([]byte("the key of the sessions, 32 bytes or more"))
		c.Login = &Login{CRM: crm, Disconnects: disconnects}
	}
}

// askFor asks for a stream and returns its answer.
func (r *rig) askFor(headers ...string) *http.Response {
	r.Helper()
	req, err := http.NewRequest(http.MethodGet, r.server.URL+"/api/notifications/stream/", nil)
	if err != nil {
		r.Fatal(err)
	}
	req.Host = "crm.example.com" // which all replicas are behind
	for i := 0; i < len(headers); i += 2 {
		req.Header.Add(headers[i], headers[i+1])
	}
	resp, err := r.server.Client().Do(req)
	if err != nil {
		r.Fatal(err)
	}
	r.Cleanup(func() { resp.Body.Close() })
	return resp
}

// sessionOf is the session that an answer gives, as a Cookie header has it.
func sessionOf(resp *http.Response) string {
	for _, c := range resp.Cookies() {
		if c.Name == auth.SessionCookie {
			return "; " + c.Name + "=" + c.Value
		}
	}
	return ""
}

// A browser that is signed in to the CRM gets its stream with no token, and comes
// back at any replica without the CRM being asked again.
func TestStreamByTheCRMsCookie(t *testing.T) {
	crm, _, withCRM := newFakeCRM(t)
	bothWays(t, withCRM, func(r *rig) {
		other := setup(r.T, withCRM)
		before := crm.asked.Load()
		resp := r.askFor("Cookie", "sessionid=5")
		(&client{r.T, resp.Body, nil}).start().expect("connected", `"user":5`)
		session := sessionOf(resp)
		if resp.StatusCode != 200 || session == "" {
			r.Fatalf("%d, session %q", resp.StatusCode, session)
		}
		for _, c := range resp.Cookies() {
			if c.Path != "/api/notifications/" || !c.HttpOnly || !c.Secure || c.SameSite != http.SameSiteStrictMode || c.MaxAge < 200 || c.MaxAge > 300 {
				r.Errorf("the session is %+v", c)
			}
		}
		for range 20 {
			resp := other.askFor("Cookie", "sessionid=5"+session)
			if resp.StatusCode != 200 || sessionOf(resp) != "" {
				r.Errorf("with the session: %d, another session: %q", resp.StatusCode, sessionOf(resp))
			}
			resp.Body.Close()
		}
		if n := crm.asked.Load() - before; n > 1 { // none in the second round: the first one's answer is remembered
			r.Errorf("the CRM was asked %d times", n)
		}
		if resp := other.askFor("Cookie", "sessionid=7"+session); resp.StatusCode != 200 {
			r.Errorf("somebody else with that session: %d", resp.StatusCode)
		} else {
			(&client{r.T, resp.Body, nil}).start().expect("connected", `"user":7`)
		}
		other.askFor("Authorization", "Bearer 9").Body.Close()
		if resp := r.askFor("Authorization", "Bearer a.b.c", "Cookie", "sessionid=5"); resp.StatusCode != 200 { // the fake verifier takes it for the subject
			r.Errorf("a token beside the cookie: %d", resp.StatusCode)
		} else {
			(&client{r.T, resp.Body, nil}).start().expect("connected", `"user":"a.b.c"`)
		}
	})
}

// What the CRM refuses, what it cannot say, and what another site's page sends.
func TestRefusalsByTheCRM(t *testing.T) {
	crm, _, withCRM := newFakeCRM(t)
	r := setup(t, withCRM)
	for _, c := range []struct {
		name    string
		answer  int
		headers []string
		status  int
		code    string
	}{
		{"no credentials", 0, nil, 401, "missing_token"},
		{"a cookie of others", 0, []string{"Cookie", "csrftoken=5"}, 401, "missing_token"},
		{"signed out", 302, []string{"Cookie", "sessionid=1"}, 401, "refused_by_crm"},
		{"refused", 403, []string{"Cookie", "sessionid=2"}, 401, "refused_by_crm"},
		{"broken", 500, []string{"Cookie", "sessionid=3"}, 503, "crm_unavailable"},
		{"another site", 0, []string{"Cookie", "sessionid=4", "Origin", "https://evil.example.com"}, 403, "origin_not_allowed"},
		{"another site's form", 0, []string{"Authorization", "Basic eA==", "Sec-Fetch-Site", "cross-site"}, 403, "origin_not_allowed"},
		{"nobody", 0, []string{"Cookie", "sessionid=nobody"}, 403, "no_recipient"},
	} {
		crm.status.Store(int32(c.answer))
		before := crm.asked.Load()
		resp := r.askFor(c.headers...)
		body := make([]byte, 500)
		n, _ := resp.Body.Read(body)
		if resp.StatusCode != c.status || !strings.Contains(string(body[:n]), `"code":"`+c.code+`"`) || sessionOf(resp) != "" {
			t.Errorf("%s: %d %s", c.name, resp.StatusCode, body[:n])
		}
		if (resp.Header.Get("Retry-After") != "") != (c.status == 503) || (resp.Header.Get("WWW-Authenticate") != "") != (c.status == 401) {
			t.Errorf("%s: %v", c.name, resp.Header)
		}
		if asked := crm.asked.Load() != before; asked != (c.status != 403 && c.code != "missing_token" || c.name == "nobody") {
			t.Errorf("%s: the CRM was asked: %t", c.name, asked)
		}
	}
}

// disconnect() must outrank what was answered before: an EventSource comes back
// within seconds, with its session.
func TestDisconnectOutranksSessions(t *testing.T) {
	crm, disconnects, withCRM := newFakeCRM(t)
	r := setup(t, withCRM)
	session := sessionOf(r.askFor("Cookie", "sessionid=5"))
	for _, c := range []struct {
		name   string
		ago    time.Duration
		err    bool
		cookie string
		asked  bool
	}{
		{"never", 0, false, session, false},
		{"long ago", time.Hour, false, session, false},
		{"now", time.Millisecond, false, session, true},
		{"now, from memory", time.Millisecond, false, "", true},
		{"nobody knows", 0, true, session, true},
	} {
		disconnects.ago.Store(int64(c.ago))
		disconnects.err.Store(c.err)
		before := crm.asked.Load()
		if resp := r.askFor("Cookie", "sessionid=5"+c.cookie); resp.StatusCode != 200 || (crm.asked.Load() != before) != c.asked {
			t.Errorf("%s: %d, the CRM was asked: %t", c.name, resp.StatusCode, crm.asked.Load() != before)
		}
	}
	crm.status.Store(401)
	disconnects.err.Store(false)
	disconnects.ago.Store(int64(time.Millisecond))
	if resp := r.askFor("Cookie", "sessionid=5"+session); resp.StatusCode != 401 {
		t.Errorf("disconnected and signed out, with its session: %d", resp.StatusCode)
	}
}

// An open stream ends when the CRM signs its login out, and only then.
func TestOpenStreamsAreAskedAbout(t *testing.T) {
	crm, _, withCRM := newFakeCRM(t)
	everyone := func(*login) bool { return true }
	for name, c := range map[string]struct {
		status int32
		names  string
		ends   bool
	}{
		"still signed in": {}, "broken": {status: 500}, "away": {status: 404},
		"signed out": {status: 302, ends: true}, "refused": {status: 401, ends: true}, "somebody else": {names: "7", ends: true},
	} {
		crm.status.Store(0)
		crm.names.Store(nil)
		r := setup(t, withCRM)
		resp := r.askFor("Cookie", "sessionid=5")
		c1 := (&client{t, resp.Body, nil}).start()
		c1.expect("connected", "")
		byToken := r.open("5", "")
		byToken.expect("connected", "")
		crm.status.Store(c.status)
		if c.names != "" {
			crm.names.Store(&c.names)
		}
		err := r.checkLogins(t.Context(), everyone)
		if (err != nil) != (c.status == 500 || c.status == 404) {
			t.Errorf("%s: %v", name, err)
		}
		if c.ends {
			c1.expect("error", `"code":"revoked"`)
			c1.expect("end", "")
		} else if r.Streams() != 2 {
			t.Errorf("%s: %d streams are left, want 2", name, r.Streams())
		}
		r.deliver(r.source.add("5"))
		byToken.expect("notification", "")
	}
}

// A user whose key is that of a group or of everybody would get what is for them.
func TestReservedRecipients(t *testing.T) {
	_, _, withCRM := newFakeCRM(t)
	r := setup(t, withCRM)
	for _, headers := range [][]string{{"Cookie", "sessionid=*"}, {"Cookie", "sessionid=group:staff"}, {"Cookie", "sessionid=group:"}} {
		if resp := r.askFor(headers...); resp.StatusCode != 403 {
			t.Errorf("%v: %d", headers, resp.StatusCode)
		}
	}
	if resp := r.askFor("Cookie", "sessionid=groups"); resp.StatusCode != 200 {
		t.Errorf("a user named groups: %d", resp.StatusCode)
	}
}

// A CRM that hangs must not keep the process from ending, and the streams that were
// being asked about go on meanwhile.
func TestHangingCRMDoesNotHoldTheEndUp(t *testing.T) {
	crm, _, withCRM := newFakeCRM(t)
	r := setup(t, withCRM)
	for i := range 3 * loginWorkers {
		resp := r.askFor("Cookie", fmt.Sprintf("sessionid=%d", i+1))
		if resp.StatusCode != http.StatusOK {
			t.Fatalf("%d", resp.StatusCode)
		}
	}
	release, asked := make(chan struct{}), make(chan struct{}, 3*loginWorkers)
	crm.hangs.Store(&hanging{asked, release})
	t.Cleanup(func() { close(release) })
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- r.checkLogins(ctx, func(*login) bool { return true }) }()
	<-asked
	began := time.Now()
	cancel()
	if err := <-ended; err == nil || time.Since(began) > 3*time.Second { // the CRM has five
		t.Errorf("%v after %v", err, time.Since(began))
	}
	if r.Streams() != 3*loginWorkers {
		t.Errorf("%d streams are left", r.Streams())
	}
}

// A page that signs out must end what its credentials opened, in all its tabs, and
// nobody else's. The session is void from then on.
func TestSignOutOfALogin(t *testing.T) {
	_, disconnects, withCRM := newFakeCRM(t)
	r := setup(t, withCRM)
	open := func(cookie string) *client {
		resp := r.askFor("Cookie", cookie)
		c := (&client{t, resp.Body, nil}).start()
		c.expect("connected", "")
		return c
	}
	session := sessionOf(r.askFor("Cookie", "sessionid=5"))
	tabs := []*client{open("sessionid=5"), open("sessionid=5" + session)}
	other := open("sessionid=7")
	req, err := http.NewRequest(http.MethodDelete, r.server.URL+"/api/notifications/session/", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Host = "crm.example.com"
	req.Header.Set("Cookie", "sessionid=5"+session)
	resp, err := r.server.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	cleared := false
	for _, c := range resp.Cookies() {
		cleared = cleared || c.Name == auth.SessionCookie && c.MaxAge < 0
	}
	if resp.StatusCode != http.StatusNoContent || !cleared {
		t.Errorf("%d, the session is cleared: %t", resp.StatusCode, cleared)
	}
	for _, c := range tabs {
		c.expect("error", `"code":"signed_out"`)
		c.expect("end", "")
	}
	r.deliver(r.source.add("7"))
	other.expect("notification", "")
	r.askFor("Cookie", "sessionid=5"+session)
	credentials, _, err := r.config.Login.CRM.Credentials(req, r.config.CookieName)
	if err != nil {
		t.Fatal(err)
	}
	id := r.session(t.Context(), sessionName(credentials))
	if want := []string{"5", fmt.Sprintf("session:%x", id)}; !slices.Equal(*disconnects.keys.Load(), want) {
		t.Errorf("a session is judged by %v, want %v", *disconnects.keys.Load(), want)
	}
}
