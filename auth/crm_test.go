package auth

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// crmServer is a CRM's endpoint whose answers a test may change.
type crmServer struct {
	*httptest.Server
	asked  atomic.Int32
	answer func(w http.ResponseWriter, r *http.Request)
}

func newCRMServer(t testing.TB, answer func(w http.ResponseWriter, r *http.Request)) *crmServer {
	s := &crmServer{answer: answer}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.asked.Add(1)
		s.answer(w, r)
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *crmServer) crm(t testing.TB, change func(*CRMConfig)) *CRM {
	t.Helper()
	config := CRMConfig{URL: s.URL + "/api/me/", Field: "/id", Cookies: []string{"sessionid"}}
	if change != nil {
		change(&config)
	}
	c, err := NewCRM(config)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// request is one with headers: name, value, …
func request(target string, headers ...string) *http.Request {
	r := httptest.NewRequest(http.MethodGet, target, nil)
	for i := 0; i < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	return r
}

func credentialsOf(t testing.TB, c *CRM, r *http.Request) *Credentials {
	t.Helper()
	credentials, ok, err := c.Credentials(r, "notifications_token")
	if err != nil || !ok {
		t.Fatalf("the request is not for the CRM: %v", err)
	}
	return credentials
}

// What the CRM says must be taken for what it is: a login page or an error of its
// own must neither name somebody nor sign everybody out.
func TestCRMAnswers(t *testing.T) {
	for _, c := range []struct {
		name, field, body, want string
		status                  int
	}{
		{"integer", "/id", `{"id":5}`, "5", 200},
		{"text", "/id", `{"id":"u-5"}`, "u-5", 200},
		{"large", "/id", `{"id":9007199254740993}`, "9007199254740993", 200},
		{"nested", "/user/pk", `{"user":{"pk":7}}`, "7", 200},
		{"a plain name", "pk", `{"pk":7}`, "7", 200},
		{"several", "/org/id,/id", `{"id":7,"org":{"id":3}}`, "3:7", 200},
		{"401", "/id", `{"id":5}`, "refused", 401},
		{"403", "/id", `{"id":5}`, "refused", 403},
		{"301", "/id", "", "refused", 301},
		{"302", "/id", "", "refused", 302},
		{"307", "/id", "", "refused", 307},
		{"404", "/id", `{"id":5}`, "unavailable", 404},
		{"429", "/id", "", "unavailable", 429},
		{"500", "/id", "", "unavailable", 500},
		{"503", "/id", "", "unavailable", 503},
		{"204", "/id", "", "unavailable", 204},
		{"201", "/id", `{"id":5}`, "unavailable", 201},
		{"a login page", "/id", "<html>id 5</html>", "unavailable", 200},
		{"no field", "/id", `{"pk":5}`, "unavailable", 200},
		{"null", "/id", `{"id":null}`, "unavailable", 200},
		{"an object", "/id", `{"id":{}}`, "unavailable", 200},
		{"twice", "/id", `{"id":5,"id":7}`, "unavailable", 200},
		{"a list", "/id", `[{"id":5}]`, "unavailable", 200},
		{"cut off", "/id", `{"id":5`, "unavailable", 200},
		{"too large", "/id", `{"id":5,"x":"` + strings.Repeat("x", maxAnswer) + `"}`, "unavailable", 200},
	} {
		var login atomic.Int32
		s := newCRMServer(t, func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/login/" {
				login.Add(1)
				fmt.Fprint(w, `{"id":1}`)
				return
			}
			w.Header().Set("Location", "/login/")
			w.WriteHeader(c.status)
			if c.status != http.StatusNoContent {
				io.WriteString(w, c.body)
			}
		})
		crm := s.crm(t, func(config *CRMConfig) { config.Field = c.field })
		r := request("/", "Cookie", "sessionid=abc")
		a, err := crm.Identify(r, credentialsOf(t, crm, r))
		got := a.Identity.Subject
		var no *Error
		switch {
		case errors.Is(err, ErrCRMUnavailable):
			got = "unavailable"
		case errors.As(err, &no) && no.Reason == reasonCRM:
			got = "refused"
		case err != nil:
			got = err.Error()
		}
		if got != c.want || login.Load() != 0 {
			t.Errorf("%s: %q (%v), want %q; the login page was asked %d times", c.name, got, err, c.want, login.Load())
		}
		if err != nil && (strings.Contains(err.Error(), "/api/me") || strings.Contains(err.Error(), "abc")) {
			t.Errorf("%s: the error shows the URL or the cookie: %v", c.name, err)
		}
		s.Close()
	}
}

// A CRM that hangs, or is not there, must be told from one that refuses.
func TestCRMIsAway(t *testing.T) {
	s := newCRMServer(t, nil)
	crm := s.crm(t, nil)
	s.Close()
	r := request("/", "Cookie", "sessionid=hush")
	if _, err := crm.Identify(r, credentialsOf(t, crm, r)); !errors.Is(err, ErrCRMUnavailable) || strings.Contains(err.Error(), "/api/me") {
		t.Errorf("%v", err)
	}
}

// Which of a request's credentials count, and who judges them.
func TestCRMCredentials(t *testing.T) {
	s := newCRMServer(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"id":5}`) })
	const jwt = "Bearer a.b.c"
	for _, c := range []struct {
		name    string
		target  string
		headers []string
		keys    bool
		cookies string
		auth    string
		asked   bool
	}{
		{name: "nothing", target: "/"},
		{name: "a cookie of others", target: "/", headers: []string{"Cookie", "csrftoken=x; notsessionid=y"}},
		{name: "session", target: "/", headers: []string{"Cookie", "a=b; sessionid=abc; csrftoken=x"}, cookies: "sessionid=abc", asked: true},
		{name: "session, twice", target: "/", headers: []string{"Cookie", "sessionid=abc;sessionid=def"}, cookies: "sessionid=abc; sessionid=def", asked: true},
		{name: "quoted", target: "/", headers: []string{"Cookie", `sessionid="a b"`}, cookies: `sessionid="a b"`, asked: true},
		{name: "DRF", target: "/", headers: []string{"Authorization", "Token abc"}, auth: "Token abc", asked: true},
		{name: "Basic", target: "/", headers: []string{"Authorization", "Basic eA=="}, keys: true, auth: "Basic eA==", asked: true},
		{name: "opaque Bearer", target: "/", headers: []string{"Authorization", "Bearer abc"}, keys: true, auth: "Bearer abc", asked: true},
		{name: "JWT with keys", target: "/", headers: []string{"Authorization", jwt, "Cookie", "sessionid=abc"}, keys: true},
		{name: "JWT without keys", target: "/", headers: []string{"Authorization", jwt}, auth: jwt, asked: true},
		{name: "both", target: "/", headers: []string{"Authorization", "Token abc", "Cookie", "sessionid=abc"}, cookies: "sessionid=abc", auth: "Token abc", asked: true},
		{name: "token in the query", target: "/?token=a.b.c", headers: []string{"Cookie", "sessionid=abc"}, keys: true},
		{name: "its name encoded", target: "/?%74oken=a.b.c", headers: []string{"Cookie", "sessionid=abc"}, keys: true},
		{name: "JWT after a tab", target: "/", headers: []string{"Authorization", "Bearer\ta.b.c"}, keys: true},
		{name: "a parameter like it", target: "/?xtoken=a", headers: []string{"Cookie", "sessionid=abc"}, cookies: "sessionid=abc", asked: true},
		{name: "our cookie of a token", target: "/", headers: []string{"Cookie", "notifications_token=a.b.c; sessionid=abc"}, keys: true},
		{name: "our cookie without keys", target: "/", headers: []string{"Cookie", "notifications_token=a.b.c; sessionid=abc"}, cookies: "sessionid=abc", asked: true},
		{name: "our session alone", target: "/", headers: []string{"Cookie", SessionCookie + "=abc"}},
	} {
		crm := s.crm(t, func(config *CRMConfig) { config.Keys = c.keys })
		got, ok, err := crm.Credentials(request(c.target, c.headers...), "notifications_token")
		if err != nil || ok != c.asked || ok && (got.cookies != c.cookies || got.authorization != c.auth) {
			t.Errorf("%s: %+v, %t, %v, want %q and %q, %t", c.name, got, ok, err, c.cookies, c.auth, c.asked)
		}
	}
	if _, _, err := s.crm(t, nil).Credentials(request("/", "Authorization", "Token a", "Authorization", "Token b"), "x"); err == nil {
		t.Error("two Authorization headers were accepted")
	}
}

// The CRM must see what it would see of the client itself, and nothing that is
// none of its business.
func TestCRMSeesTheRequest(t *testing.T) {
	var got *http.Request
	s := newCRMServer(t, func(w http.ResponseWriter, r *http.Request) { got = r; fmt.Fprint(w, `{"id":5}`) })
	crm := s.crm(t, nil)
	r := request("https://crm.example.com/api/notifications/stream/?last_event_id=x", "Cookie", "other=1; sessionid=abc", "Authorization", "Token t",
		"X-Forwarded-Proto", "https", "X-Forwarded-For", "192.0.2.1", "X-Forwarded-For", "10.0.0.1", "X-Forwarded-Host", "evil", "Accept", "text/event-stream", "Origin", "https://crm.example.com", "User-Agent", "x")
	if _, err := crm.Identify(r, credentialsOf(t, crm, r)); err != nil {
		t.Fatal(err)
	}
	want := http.Header{
		"Accept": {"application/json"}, "User-Agent": {"notification-gateway"}, "Cookie": {"sessionid=abc"}, "Authorization": {"Token t"},
		"X-Forwarded-Proto": {"https"}, "X-Forwarded-For": {"192.0.2.1", "10.0.0.1"},
	}
	if got.Host != "crm.example.com" || got.Method != http.MethodGet || got.URL.String() != "/api/me/" || !reflect.DeepEqual(got.Header, want) {
		t.Errorf("the CRM saw %s %s of %s with %v", got.Method, got.URL, got.Host, got.Header)
	}
}

// When a replica restarts all tabs come at once: the CRM must be asked once for
// each login, and by a bounded number of requests at a time.
func TestCRMIsSpared(t *testing.T) {
	var now, most atomic.Int32
	s := newCRMServer(t, func(w http.ResponseWriter, _ *http.Request) {
		for n, m := now.Add(1), most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		defer now.Add(-1)
		fmt.Fprint(w, `{"id":5}`)
	})
	crm := s.crm(t, nil)
	registry := prometheus.NewPedanticRegistry()
	crm.Register(registry)
	var all sync.WaitGroup
	for i := range 400 {
		all.Go(func() {
			r := request("/", "Cookie", fmt.Sprintf("sessionid=%d", i/4))
			if a, err := crm.Identify(r, credentialsOf(t, crm, r)); err != nil || a.Identity.Subject != "5" {
				t.Errorf("%+v, %v", a, err)
			}
		})
	}
	all.Wait()
	if n := s.asked.Load(); n != 100 || most.Load() > maxAsking {
		t.Errorf("the CRM was asked %d times for 100 logins, %d at a time", n, most.Load())
	}
	if err := testutil.GatherAndCompare(registry, strings.NewReader(`
# HELP notification_gateway_crm_answers_remembered Answers of the CRM that are remembered for seconds.
# TYPE notification_gateway_crm_answers_remembered gauge
notification_gateway_crm_answers_remembered 100
# HELP notification_gateway_crm_answers_reused_total Requests that needed no question to the CRM, by where the answer came from.
# TYPE notification_gateway_crm_answers_reused_total counter
notification_gateway_crm_answers_reused_total{source="memory"} 300
notification_gateway_crm_answers_reused_total{source="session"} 0
# HELP notification_gateway_crm_requests_total Questions to the CRM whom credentials name, by result.
# TYPE notification_gateway_crm_requests_total counter
notification_gateway_crm_requests_total{result="ok"} 100
notification_gateway_crm_requests_total{result="refused"} 0
notification_gateway_crm_requests_total{result="unavailable"} 0
`), "notification_gateway_crm_answers_remembered", "notification_gateway_crm_answers_reused_total", "notification_gateway_crm_requests_total"); err != nil {
		t.Error(err)
	}
}

// The memory must not answer for other credentials, at another tenant's host, for
// ever, or when the caller wants to know what holds now.
func TestCRMMemoryIsNarrow(t *testing.T) {
	s := newCRMServer(t, func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, `{"id":%q}`, r.Host+"|"+r.Header.Get("Cookie")+"|"+r.Header.Get("Authorization"))
	})
	crm := s.crm(t, nil)
	seen := map[string]bool{}
	for _, headers := range [][]string{
		{"Cookie", "sessionid=a"},
		{"Cookie", "sessionid=b"},
		{"Authorization", "sessionid=a"},
		{"Authorization", "Token a"},
		{"Cookie", "sessionid=a", "Authorization", "Token a"},
		{"Cookie", "sessionid=a; sessionid=b"},
	} {
		for _, host := range []string{"one.example.com", "two.example.com"} {
			r := request("http://"+host+"/", headers...)
			a, err := crm.Identify(r, credentialsOf(t, crm, r))
			if err != nil || seen[a.Identity.Subject] {
				t.Errorf("%v at %s: %+v, %v", headers, host, a, err)
			}
			seen[a.Identity.Subject] = true
		}
	}
	r := request("/", "Cookie", "sessionid=a")
	before := s.asked.Load()
	for range 2 {
		if a, err := crm.Ask(t.Context(), credentialsOf(t, crm, r)); err != nil || a.Source != FromCRM {
			t.Errorf("%+v, %v", a, err)
		}
	}
	if s.asked.Load() != before+2 {
		t.Error("Ask was answered from memory")
	}
	p := &pending{done: make(chan struct{}), answer: Answer{At: time.Now()}}
	close(p.done)
	if !p.isFresh(time.Now()) || p.isFresh(time.Now().Add(rememberFor)) {
		t.Error("an answer is remembered for another time than it should be")
	}
}

// A session of the gateway's own spares the CRM at every replica. It must not be
// good for other credentials, other keys or a longer time, or be changed.
func TestSessions(t *testing.T) {
	s := newCRMServer(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"id":"5"}`) })
	one, two := s.crm(t, nil), s.crm(t, nil) // two replicas
	key := []byte("a key that the database made, of 32 bytes or more")
	r := request("http://crm.example.com/", "Cookie", "sessionid=abc")
	credentials := credentialsOf(t, one, r)
	a, err := one.Identify(r, credentials)
	if err != nil {
		t.Fatal(err)
	}
	if one.Session(a, credentials) != nil {
		t.Error("a session was made without a key")
	}
	one.SetSessionKey(key)
	two.SetSessionKey(key)
	cookie := one.Session(a, credentials)
	if cookie == nil || cookie.Name != SessionCookie || cookie.MaxAge <= 0 || cookie.MaxAge > int(SessionLife.Seconds()) {
		t.Fatalf("the session is %+v", cookie)
	}
	if strings.Contains(cookie.Value, "abc") {
		t.Error("the session shows the credentials")
	}
	with := func(value string, headers ...string) *http.Request {
		r := request("http://crm.example.com/", headers...)
		r.AddCookie(&http.Cookie{Name: SessionCookie, Value: value})
		return r
	}
	taken := func(crm *CRM, r *http.Request, now time.Time) bool {
		a, ok := crm.readSession(r, credentialsOf(t, crm, r), now)
		return ok && a.Identity.Subject == "5" && a.Source == FromSession
	}
	good := with(cookie.Value, "Cookie", "sessionid=abc")
	for _, crm := range []*CRM{one, two} {
		if !taken(crm, good, time.Now()) {
			t.Error("a good session is not believed")
		}
	}
	before := s.asked.Load()
	if b, err := two.Identify(good, credentialsOf(t, two, good)); err != nil || b.Source != FromSession || s.asked.Load() != before || !b.At.Equal(a.At.Truncate(time.Millisecond)) {
		t.Errorf("%+v, %v", b, err)
	}
	if taken(one, good, a.At.Add(SessionLife)) || taken(one, good, a.At.Add(-sessionSkew-time.Second)) {
		t.Error("a session is believed after its end, or before it was made")
	}
	old := a
	old.At = a.At.Add(-SessionLife)
	if one.Session(old, credentials) != nil {
		t.Error("an old answer became a session")
	}
	other := s.crm(t, nil)
	other.SetSessionKey([]byte("another key that the database made, 32 bytes"))
	if taken(other, good, time.Now()) {
		t.Error("a session of another key is believed")
	}
	for name, r := range map[string]*http.Request{
		"other cookie": with(cookie.Value, "Cookie", "sessionid=abd"),
		"other way":    with(cookie.Value, "Authorization", "sessionid=abc"),
		"more":         with(cookie.Value, "Cookie", "sessionid=abc", "Authorization", "Token x"),
		"other host": func() *http.Request {
			r := with(cookie.Value, "Cookie", "sessionid=abc")
			r.Host = "evil.example.com"
			return r
		}(),
		"cut off":       with(cookie.Value[:len(cookie.Value)-4], "Cookie", "sessionid=abc"),
		"nothing":       with("", "Cookie", "sessionid=abc"),
		"another token": with(strings.Repeat("A", 80), "Cookie", "sessionid=abc"),
	} {
		if taken(one, r, time.Now()) {
			t.Errorf("%s: the session is believed", name)
		}
	}
	for i := range cookie.Value {
		changed := []byte(cookie.Value)
		changed[i] = respell(changed[i])[0]
		if taken(one, with(string(changed), "Cookie", "sessionid=abc"), time.Now()) {
			t.Errorf("with byte %d changed the session is believed", i)
		}
	}
	one.SetSessionKey(nil)
	if taken(one, good, time.Now()) {
		t.Error("a session is believed without a key")
	}
}

// Cookies in plain http across the internet would be everybody's.
func TestCRMURL(t *testing.T) {
	for url, ok := range map[string]bool{
		"http://127.0.0.1:8000/api/me/": true, "http://[::1]/me": true, "http://10.1.2.3/me": true, "http://192.168.0.1": true, "http://[fd00::1]/": true,
		"http://crm:8000/api/me/": true, "https://crm.example.com/api/me/": true, "https://203.0.113.7/me": true,
		"http://203.0.113.7/me": false, "http://[2001:db8::1]/": false, "http://169.254.169.254/": false, "http://0.0.0.0/": false, "http://[::ffff:203.0.113.7]/": false,
		"ftp://crm/": false, "crm:8000": false, "": false, "https://user:hush@crm/": false, "https://crm/#x": false,
	} {
		if err := CheckCRMURL(url); (err == nil) != ok || err != nil && strings.Contains(err.Error(), "hush") {
			t.Errorf("%s: %v", url, err)
		}
	}
	// As if the name led there: the address is judged before a byte is sent.
	if _, err := newCRMTransport("http://crm.example.com/").DialContext(t.Context(), "tcp", "203.0.113.7:80"); !errors.Is(err, errPlain) {
		t.Errorf("a name that leads to a public address: %v", err)
	}
}

func TestSelectors(t *testing.T) {
	object, err := parseObject([]byte(`{"id":5,"a/b":{"c~d":"x"},"user":{"id":7,"list":["p",9]},"org":"acme","empty":"","colon":"a:b","nothing":null}`))
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]string{
		"id": "5", "/id": "5", "/user/id": "7", "org,id": "acme:5", " org , /user/id ": "acme:7", "/a~1b/c~0d": "x", "/user/list/1": "9", "colon": "a:b",
		"/user/list/01": reasonUserClaim, "/user/list/2": reasonUserClaim, "/user/list/-1": reasonUserClaim, "/id/x": reasonUserClaim, "user": reasonUserClaim, "empty": reasonUserClaim, "absent": reasonUserClaim,
		"org,empty": reasonUserPart, "org,colon": reasonUserPart, "org,nothing": reasonUserPart, "org,absent": reasonUserPart, "org,user": reasonUserClaim,
	} {
		s, err := parseSelector(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		got, err := s.subject(object)
		if err != nil {
			got = reasonOf(err)
		}
		if got != want {
			t.Errorf("%s: %q, want %q", text, got, want)
		}
	}
	for _, bad := range []string{"", ",", "a,", "/a~", "/a~2"} {
		if _, err := parseSelector(bad); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}

func TestGroups(t *testing.T) {
	names := make([]string, maxGroups+1)
	for i := range names {
		names[i] = fmt.Sprint(i)
	}
	for body, want := range map[string][]string{
		`{}`: nil, `{"groups":null}`: nil, `{"groups":[]}`: nil, `{"groups":["a","b","a"]}`: {"group:a", "group:b"}, `{"groups":"one"}`: {"group:one"},
		`{"groups":[3,"x:y","*",""]}`: {"group:3", "group:x:y", "group:*"}, `{"groups":{}}`: {reasonGroups}, `{"groups":[["a"]]}`: {reasonGroups}, `{"groups":[true]}`: {reasonGroups},
		`{"groups":["a\nb"]}`: {reasonGroups}, `{"groups":[` + strings.Join(names, ",") + `]}`: {reasonGroups},
	} {
		object, err := parseObject([]byte(body))
		if err != nil {
			t.Fatal(err)
		}
		s, err := parseSelector("groups")
		if err != nil {
			t.Fatal(err)
		}
		got, err := s.groups(object)
		if err != nil {
			got = []string{reasonOf(err)}
		}
		if !slices.Equal(got, want) {
			t.Errorf("%.60s: %v, want %v", body, got, want)
		}
	}
}
