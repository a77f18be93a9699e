package gateway

import (
	"net/http/httptest"
	"testing"
)

// Two spellings of one origin were two origins: a list with an upper-case letter
// or a port matched nobody, without a word.
func TestCanonicalOrigin(t *testing.T) {
	for text, want := range map[string]string{
		"https://crm.example.com":                             "https://crm.example.com",
		"HTTPS://CRM.Example.COM":                             "https://crm.example.com",
		"https://crm.example.com:443":                         "https://crm.example.com",
		"https://crm.example.com:0443":                        "https://crm.example.com",
		"http://crm.example.com:80":                           "http://crm.example.com",
		"http://crm.example.com:443":                          "http://crm.example.com:443",
		"https://crm.example.com:":                            "https://crm.example.com",
		"https://crm.example.com.":                            "https://crm.example.com.", // another origin than without the dot
		"https://b\u00fccher.example":                         "https://xn--bcher-kva.example",
		"https://B\u00dcCHER.example":                         "https://xn--bcher-kva.example",
		"https://stra\u00dfe.example":                         "https://xn--strae-oqa.example", // not strasse: browsers are not transitional
		"http://my_host:3000":                                 "http://my_host:3000",
		"http://127.0.0.1:8080":                               "http://127.0.0.1:8080",
		"http://[::1]:8080":                                   "http://[::1]:8080",
		"http://[0:0::1]":                                     "http://[::1]",
		"capacitor://localhost":                               "capacitor://localhost",
		"ionic://localhost":                                   "ionic://localhost",
		"tauri://localhost":                                   "tauri://localhost",
		"app://obsidian.md":                                   "app://obsidian.md",
		"safari-web-extension://E8B5D4-A0":                    "safari-web-extension://e8b5d4-a0",
		"chrome-extension://abcdefghijklmnopabcdefghijklmnop": "chrome-extension://abcdefghijklmnopabcdefghijklmnop",
	} {
		if got, err := CanonicalOrigin(text); got != want || err != nil {
			t.Errorf("%s: %q %v, want %q", text, got, err, want)
		}
		if again, err := CanonicalOrigin(want); again != want || err != nil {
			t.Errorf("%s is not canonical: %q %v", want, again, err)
		}
	}
	for _, text := range []string{
		"", "*", "null", "crm.example.com", "//crm.example.com", "https://", "https://*.example.com", "*://crm.example.com",
		"https://crm.example.com/", "https://crm.example.com/path", "https://crm.example.com?", "https://crm.example.com?q", "https://crm.example.com#f",
		"https://user@crm.example.com", "https://@crm.example.com", "https://crm.example.com:65536", "https://crm.example.com:http", "https://crm example.com",
		"https://%63rm.example.com", "https://.", "https://1.2.3", "https://256.1.1.1", "https://[::1%25eth0]", "https://[::1", "https://::1",
		"file:///x", "file://host", "data:text/html,x", "ws://crm.example.com", "wss://crm.example.com", "https:crm.example.com", "capacitor://",
		"https://crm.example.com, https://b.example.com", "https://crm.example.com\x00",
	} {
		if got, err := CanonicalOrigin(text); err == nil {
			t.Errorf("%q was taken as %q, and can never match", text, got)
		}
	}
}

// A page of one's own host must not be refused because a proxy spells the host
// otherwise, and another host's must be.
func TestOwnOrigin(t *testing.T) {
	r := setup(t, nil)
	for _, c := range []struct {
		origin, host string
		allowed      bool
	}{
		{"https://crm.example.com", "crm.example.com", true},
		{"https://crm.example.com", "crm.example.com:443", true},
		{"http://crm.example.com", "crm.example.com:80", true},
		{"https://crm.example.com", "CRM.example.com:443", true},
		{"https://crm.example.com:8443", "crm.example.com:8443", true},
		{"https://xn--bcher-kva.example", "b\u00fccher.example", true},
		{"http://[::1]:8080", "[0:0::1]:8080", true},
		{"https://crm.example.com", "crm.example.com:80", false},
		{"http://crm.example.com", "crm.example.com:443", false},
		{"https://crm.example.com:8443", "crm.example.com:443", false},
		{"https://crm.example.com:8443", "crm.example.com", false},
		{"https://evil.example", "crm.example.com:443", false},
		{"capacitor://localhost", "localhost", false},
		{"null", "null", false},
		{"https://", "", false},
		{"https://x@crm.example.com", "x@crm.example.com", false},
	} {
		req := httptest.NewRequest("GET", "/", nil)
		req.Host = c.host
		req.Header.Set("Origin", c.origin)
		if got := r.originAllowed(req); got != c.allowed {
			t.Errorf("Origin %s at Host %s: allowed %t, want %t", c.origin, c.host, got, c.allowed)
		}
	}
}

// A listed origin is the same in every spelling, for the cookie and for CORS.
func TestListedOrigin(t *testing.T) {
	r := setup(t, func(c *Config, _ *fakeVerifier) {
		c.AllowedOrigins = []string{"https://CRM.example.com:443", "capacitor://localhost", "https://b\u00fccher.example"}
	})
	for origin, allowed := range map[string]bool{
		"https://crm.example.com": true, "https://CRM.EXAMPLE.com:443": true, "capacitor://localhost": true, "https://xn--bcher-kva.example": true,
		"http://crm.example.com": false, "capacitor://localhost:1": false, "ionic://localhost": false, "": true,
	} {
		for _, method := range []string{"GET", "OPTIONS"} {
			resp, _ := r.request(method, "/api/notifications/stream/", map[string]string{"Origin": origin, "Cookie": "session=5"})
			got := resp.Header.Get("Access-Control-Allow-Origin")
			if origin != "" && (got == origin) != allowed {
				t.Errorf("%s %s: Access-Control-Allow-Origin is %q", method, origin, got)
			}
			if method == "GET" && (resp.StatusCode == 200) != allowed {
				t.Errorf("%s: status %d", origin, resp.StatusCode)
			}
		}
	}
}

// Tracing agents and HTTP clients add headers of their own to each request: a
// list of ours would refuse the page's whole request. What a script needs to
// know when it may come again must be exposed to it.
func TestPreflight(t *testing.T) {
	r := setup(t, func(c *Config, _ *fakeVerifier) { c.AllowedOrigins = []string{"https://crm.example.com"} })
	const asked = "authorization,content-type,sentry-trace,traceparent"
	for origin, want := range map[string]string{"https://crm.example.com": asked, "https://evil.example.com": ""} {
		resp, _ := r.request("OPTIONS", "/api/notifications/session/", map[string]string{
			"Origin": origin, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": asked,
		})
		if got := resp.Header.Get("Access-Control-Allow-Headers"); got != want {
			t.Errorf("%s may send %q, want %q", origin, got, want)
		}
	}
	resp, _ := r.request("GET", "/api/notifications/stream/", map[string]string{"Origin": "https://crm.example.com"})
	if got := resp.Header.Get("Access-Control-Expose-Headers"); got != "Retry-After, WWW-Authenticate" {
		t.Errorf("a script may read %q", got)
	}
}
