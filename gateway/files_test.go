package gateway

import (
	"compress/gzip"
	"io"
	"net/http"
	"testing"
)

// A browser that asks for the module at every page must get 304, and one that
// holds an old module a new one; a proxy must not give the compressed form to a
// client that cannot read it.
func TestFiles(t *testing.T) {
	const module = "export const connect = 1;\n"
	r := setup(t, func(c *Config, _ *fakeVerifier) {
		c.Files = map[string][]byte{"client.js": []byte(module)}
		c.AllowedOrigins = []string{"https://crm.example.com"}
		c.ConnectsPerMinute = 1
	})
	ask := func(method, path string, header ...string) *http.Response {
		t.Helper()
		req, err := http.NewRequest(method, r.server.URL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		for i := 0; i < len(header); i += 2 {
			req.Header.Set(header[i], header[i+1])
		}
		resp, err := r.server.Client().Transport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { resp.Body.Close() })
		return resp
	}
	const path = "/api/notifications/client.js"
	tags := map[string]string{}
	for _, accepts := range []string{"identity", "gzip, br", "gzip;q=0"} {
		for _, method := range []string{"GET", "HEAD"} {
			resp := ask(method, path, "Accept-Encoding", accepts, "Origin", "https://crm.example.com")
			h := resp.Header
			if resp.StatusCode != 200 || h.Get("Cache-Control") != "public, max-age=300" || h.Get("Content-Type") != "text/javascript; charset=utf-8" ||
				h.Get("X-Content-Type-Options") != "nosniff" || h.Get("Access-Control-Allow-Origin") != "https://crm.example.com" {
				t.Errorf("%s %s: %d %v", method, accepts, resp.StatusCode, h)
			}
			var body io.Reader = resp.Body
			if compressed := accepts == "gzip, br"; compressed != (h.Get("Content-Encoding") == "gzip") {
				t.Errorf("%s %s: encoded as %q", method, accepts, h.Get("Content-Encoding"))
			} else if compressed && method == "GET" {
				var err error
				if body, err = gzip.NewReader(body); err != nil {
					t.Fatal(err)
				}
			}
			text, err := io.ReadAll(body)
			if want := map[string]string{"GET": module}[method]; err != nil || string(text) != want {
				t.Errorf("%s %s: %q, %v", method, accepts, text, err)
			}
			tags[h.Get("Content-Encoding")] = h.Get("ETag")
			if again := ask(method, path, "Accept-Encoding", accepts, "If-None-Match", h.Get("ETag")); again.StatusCode != 304 || again.Header.Get("ETag") != h.Get("ETag") {
				t.Errorf("%s %s: %d when asked again", method, accepts, again.StatusCode)
			}
			if other := ask(method, path, "Accept-Encoding", accepts, "If-None-Match", `"old"`); other.StatusCode != 200 {
				t.Errorf("%s %s: %d for another version", method, accepts, other.StatusCode)
			}
		}
	}
	if len(tags) != 2 || tags[""] == tags["gzip"] {
		t.Errorf("the entity tags are %v", tags)
	}
	if resp := ask("POST", path); resp.StatusCode != 405 || resp.Header.Get("Allow") != "GET, HEAD, OPTIONS" {
		t.Errorf("POST: %d", resp.StatusCode)
	}
	for _, other := range []string{"/api/notifications/", path + "/", "/api/notifications/client%2Ejs", "/client.js"} {
		if resp := ask("GET", other); resp.StatusCode != 404 {
			t.Errorf("%s: %d", other, resp.StatusCode)
		}
	}
}
