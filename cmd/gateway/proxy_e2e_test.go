//go:build e2e

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/seed-64e334f9/notification-gateway/store/storetest"
	"github.com/seed-64e334f9/notification-gateway/store/throwaway"
)

// crmStub plays the CRM: it answers with the path and with what the proxy told
// it of the client.
func crmStub(t *testing.T) (address string) {
	crm := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "crm %s for=%s proto=%s host=%s", r.URL.Path, strings.Join(r.Header["X-Forwarded-For"], ","), r.Header.Get("X-Forwarded-Proto"), r.Host)
	}))
	t.Cleanup(crm.Close)
	return strings.TrimPrefix(crm.URL, "http://")
}

// behind are the addresses of two gateways and a CRM.
func behind(crm string, a, b *instance) upstreams {
	bare := func(url string) string { return strings.TrimPrefix(url, "http://") }
	return upstreams{crm, bare(a.public), bare(b.public), bare(a.admin), bare(b.admin)}
}

func (f *front) ask(client *http.Client, method, url, token string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(f.Context(), method, url, nil)
	if err != nil {
		f.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	req.Header.Set("X-Forwarded-For", "203.0.113.9") // a client that lies
	return client.Do(req)
}

// text returns the status and body of an answer.
func (f *front) text(client *http.Client, method, url string) (int, string) {
	f.Helper()
	resp, err := f.ask(client, method, url, "")
	if err != nil {
		f.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		f.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

const proxied = "https://" + proxyHost + streamPath

// open opens a stream through the proxy, until ctx ends.
func (f *front) open(client *http.Client, token string) *http.Response {
	f.Helper()
	resp, err := f.ask(client, http.MethodGet, proxied, token)
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { resp.Body.Close() })
	if resp.StatusCode != http.StatusOK {
		body, _ := io.ReadAll(resp.Body)
		f.Fatalf("stream: %d %s\n%.3000s", resp.StatusCode, body, f.logs())
	}
	return resp
}

// Behind each proxy, from the file that is shipped: the CRM keeps its own paths,
// an office of 400 tabs behind one address has its streams, a reload ends none of
// them, and no log holds a token.
func TestE2EProxies(t *testing.T) {
	for name, p := range proxies() {
		t.Run(name, func(t *testing.T) {
			url := storetest.CRM(t)
			environment(t, url)
			t.Setenv("GATEWAY_MAX_STREAMS_PER_USER", "1000")
			t.Setenv("GATEWAY_PING_INTERVAL", "2s") // HAProxy notices a client that has left with the next pings
			db := open(t, url)
			crm, a, b := crmStub(t), serveInTest(t), serveInTest(t)
			a.readyz(t, 200)
			b.readyz(t, 200)
			f := p.start(t, behind(crm, a, b))
			f.paths()
			f.office(db)
			f.reloads(db, p)
			f.leaves(a, b)
			f.tells(a, b)
		})
	}
}

// paths asks for what is the CRM's and what is the gateway's.
func (f *front) paths() {
	f.Helper()
	client := f.client(2, nil)
	for _, path := range []string{"/", "/api/notifications/", "/api/notifications/5/", "/api/notifications/5/read/", "/api/notifications/streams/", "/api/notifications/stream/5/", "/api/notifications/client.json"} {
		want := fmt.Sprintf("crm %s for=127.0.0.1 proto=https host=%s", path, proxyHost)
		if status, text := f.text(client, http.MethodGet, "https://"+proxyHost+path); status != 200 || text != want {
			f.Errorf("%s: %d %q, want %q", path, status, text, want)
		}
	}
	for _, c := range []struct {
		method, path string
		status       int
		says         string
	}{
		{http.MethodGet, "stream/", 401, "unauthorized"},
		{http.MethodGet, "stream", 401, "unauthorized"},
		{http.MethodDelete, "session/", 204, ""},
		{http.MethodDelete, "session", 204, ""},
		{http.MethodPost, "session/", 401, "unauthorized"},
		{http.MethodGet, "client.js", 200, "export"},
		{http.MethodGet, "client.d.ts", 200, "export"},
	} {
		status, text := f.text(client, c.method, "https://"+proxyHost+"/api/notifications/"+c.path)
		if status != c.status || (c.status == 200) != strings.Contains(text, "export") || strings.HasPrefix(text, "crm") {
			f.Errorf("%s %s: %d %.80q", c.method, c.path, status, text)
		}
	}
	resp, err := f.ask(client, http.MethodGet, "http://"+proxyHost+"/leads/?a=b", "")
	if err != nil {
		f.Fatal(err)
	}
	resp.Body.Close()
	if at := resp.Header.Get("Location"); resp.StatusCode/100 != 3 || !strings.HasPrefix(at, "https://"+proxyHost) || !strings.HasSuffix(at, "/leads/?a=b") {
		f.Errorf("plain HTTP: %d %q", resp.StatusCode, at)
	}
}

// office opens 200 streams in one connection of HTTP/2 and 200 in connections of
// their own, all from one address, and each must get a row.
func (f *front) office(db *throwaway.DB) {
	f.Helper()
	token := mint(f, "5")
	var connections atomic.Int32
	two, one := f.client(2, &connections), f.client(1, nil)
	var readers sync.WaitGroup
	var got atomic.Int32
	for i := range 400 {
		client := two
		if i%2 == 1 {
			client = one
		}
		resp := f.open(client, token)
		if want := 2 - i%2; resp.ProtoMajor != want {
			f.Fatalf("stream %d is HTTP/%d, want %d", i, resp.ProtoMajor, want)
		}
		readers.Go(func() {
			defer resp.Body.Close()
			for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
				if strings.Contains(lines.Text(), "to the whole office") {
					got.Add(1)
					return
				}
			}
		})
	}
	if n := connections.Load(); n != 1 {
		f.Errorf("200 streams of one browser took %d connections of HTTP/2", n)
	}
	began := time.Now()
	insertRow(f, db, "to the whole office")
	readers.Wait()
	f.Logf("400 streams of one address: %d got the row, the last %v after it was inserted", got.Load(), time.Since(began).Round(time.Millisecond))
	if n := got.Load(); n != 400 {
		f.Errorf("%d of 400 streams got the row", n)
	}
}

// reloads lets the proxy read its file again while streams are open.
func (f *front) reloads(db *throwaway.DB, p proxy) {
	f.Helper()
	token := mint(f, "5")
	var open []*bufio.Scanner
	for version := 1; version <= 2; version++ {
		open = append(open, bufio.NewScanner(f.open(f.client(version, nil), token).Body))
	}
	for _, lines := range open {
		until(f, lines, "connected")
	}
	for n := range 3 {
		p.reload(f)
		f.eventually("it listens after a reload", func() bool {
			c, err := net.Dial("tcp", f.secure)
			if err == nil {
				c.Close()
			}
			return err == nil
		})
		fresh := bufio.NewScanner(f.open(f.client(2, nil), token).Body)
		until(f, fresh, "connected")
		title := fmt.Sprint("after reload ", n)
		insertRow(f, db, title)
		for _, lines := range append(open, fresh) {
			until(f, lines, title)
		}
	}
}

// leaves looks whether the gateways learn that clients have left.
func (f *front) leaves(gateways ...*instance) {
	f.Helper()
	ctx, leave := context.WithCancel(f.Context())
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, proxied, nil)
	if err != nil {
		f.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+mint(f, "7777"))
	streams := func() (n float64) {
		for _, g := range gateways {
			n += g.metric(f, "streams")
		}
		return n
	}
	f.eventually("the streams of the office have ended", func() bool { return streams() <= 5 }) // those of reloads stay
	before := streams()
	resp, err := f.client(2, nil).Do(req)
	if err != nil {
		f.Fatal(err)
	}
	until(f, bufio.NewScanner(resp.Body), "connected")
	f.eventually("the stream counts", func() bool { return streams() == before+1 })
	leave()
	resp.Body.Close()
	f.eventually("the gateway knows that the client has left", func() bool { return streams() == before })
}

// tells sends tokens in queries, and looks for them in all that the proxy wrote.
func (f *front) tells(a, b *instance) {
	f.Helper()
	client, token := f.client(2, nil), mint(f, "5")
	signature := token[strings.LastIndex(token, ".")+1:]
	get := func(url string) int {
		resp, err := f.ask(client, http.MethodGet, url, "")
		if err != nil {
			f.Fatal(err)
		}
		resp.Body.Close()
		return resp.StatusCode
	}
	good := proxied + "?types=x&token=" + token
	if status := get(good); status != 200 {
		f.Errorf("a token in the query: %d", status)
	}
	if status := get(good + "x"); status != 401 {
		f.Errorf("a bad token in the query: %d", status)
	}
	a.stop()
	b.stop()
	if status := get(good); status < 502 || status > 504 {
		f.Errorf("without a gateway: %d", status)
	}
	f.stop()
	text := f.logs()
	if n := strings.Count(text, "api/notifications/stream"); n < 3 {
		f.Errorf("the log has %d lines of streams:\n%.3000s", n, text)
	}
	if i := strings.Index(text, signature); i >= 0 {
		f.Errorf("a log has a token: …%.600s", text[max(0, i-500):])
	}
}

// One of two gateways that is full answers 503, which ends an EventSource for
// good: no client may see it.
func TestE2EProxyOneFull(t *testing.T) {
	for name, p := range proxies() {
		t.Run(name, func(t *testing.T) {
			environment(t, storetest.CRM(t))
			t.Setenv("GATEWAY_MAX_STREAMS_PER_USER", "1000")
			crm, b := crmStub(t), serveInTest(t)
			b.readyz(t, 200)
			t.Setenv("GATEWAY_MAX_STREAMS", "1")
			a := serveInTest(t)
			a.readyz(t, 200)
			until(t, a.stream(t, mint(t, "7"), ""), "connected")
			u := behind(crm, a, b)
			u.healthA = u.healthB // HAProxy would see that a is full, as it sees it two seconds later
			f := p.start(t, u)
			for range 20 {
				f.open(f.client(2, nil), mint(t, "5"))
			}
			if !strings.Contains(a.scrape(t), `notification_gateway_requests_refused_total{code="full"}`) {
				t.Errorf("the full gateway was not asked:\n%s", a.scrape(t))
			}
		})
	}
}

// One of two gateways has gone with its address, which answers nothing at all:
// no more than a connect now and then may have to wait for it.
func TestE2EProxyAddressGone(t *testing.T) {
	for name, p := range proxies() {
		t.Run(name, func(t *testing.T) {
			environment(t, storetest.CRM(t))
			t.Setenv("GATEWAY_MAX_STREAMS_PER_USER", "1000")
			crm, b := crmStub(t), serveInTest(t)
			b.readyz(t, 200)
			u := behind(crm, b, b)
			u.a = silentAddress(t)
			u.healthA = u.a
			f := p.start(t, u)
			const connects = 40
			began, slowest := time.Now(), time.Duration(0)
			for range connects {
				one := time.Now()
				f.open(f.client(2, nil), mint(t, "5"))
				slowest = max(slowest, time.Since(one))
			}
			took := time.Since(began)
			t.Logf("%d connects beside an address that is gone: %v in all, the slowest %v", connects, took.Round(time.Millisecond), slowest.Round(time.Millisecond))
			if took > connects/2*time.Second {
				t.Errorf("%v: the address that is gone was asked for every second connect", took)
			}
		})
	}
}

// silentAddress is of a socket whose queue is full: the kernel drops who asks for
// a connection, as if nobody were there.
func silentAddress(t *testing.T) string {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err == nil {
		t.Cleanup(func() { syscall.Close(fd) })
		err = syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}})
	}
	if err == nil {
		err = syscall.Listen(fd, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	name, err := syscall.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	address := fmt.Sprintf("127.0.0.1:%d", name.(*syscall.SockaddrInet4).Port)
	for range 100 {
		c, err := net.DialTimeout("tcp", address, 300*time.Millisecond)
		if err != nil {
			return address
		}
		t.Cleanup(func() { c.Close() })
	}
	t.Fatal("the kernel goes on taking connections")
	return ""
}

// Streams with nothing to say must live for longer than three pings of the
// default interval.
func TestE2EProxyIdle(t *testing.T) {
	environment(t, storetest.CRM(t))
	crm, a, b := crmStub(t), serveInTest(t), serveInTest(t)
	a.readyz(t, 200)
	b.readyz(t, 200)
	var readers sync.WaitGroup
	for name, p := range proxies() {
		f := p.start(t, behind(crm, a, b))
		for version := 1; version <= 2; version++ {
			resp := f.open(f.client(version, nil), mint(t, "5"))
			readers.Go(func() {
				pings := 0
				for lines := bufio.NewScanner(resp.Body); pings < 4 && lines.Scan(); {
					if lines.Text() == "event: ping" {
						pings++
					}
				}
				if pings < 4 {
					t.Errorf("%s, HTTP/%d: the stream ended after %d pings", name, version, pings)
				}
			})
		}
	}
	readers.Wait()
}

// An nginx takes X-Accel-Buffering away from what it forwards, and another one
// in front, such as an ingress with nginx's defaults, would hold events back.
func TestE2EProxyBehindNginxWithDefaults(t *testing.T) {
	url := storetest.CRM(t)
	environment(t, url)
	db := open(t, url)
	crm, g := crmStub(t), serveInTest(t)
	g.readyz(t, 200)
	for name, p := range proxies() {
		t.Run(name, func(t *testing.T) {
			inner := p.start(t, behind(crm, g, g))
			outer := proxy{command: proxies()["nginx"].command, file: "outer.conf"}.run(t, func(f *front) string {
				return fmt.Sprintf("pid %[1]s/pid; events {}\nhttp { access_log off; %[2]s server { listen %[3]s ssl; ssl_certificate %[1]s/%[4]s.pem; ssl_certificate_key %[1]s/%[4]s.key;\n"+
					"location / { proxy_pass https://%[5]s; proxy_ssl_server_name on; proxy_ssl_name %[4]s; proxy_set_header Host %[4]s; } } }", f.dir, temporary(f.dir), f.secure, proxyHost, inner.secure)
			})
			lines := bufio.NewScanner(outer.open(outer.client(1, nil), mint(t, "5")).Body)
			until(t, lines, "connected")
			insertRow(t, db, "through two of them")
			until(t, lines, "through two of them")
		})
	}
}

// The page must link to each file, and show what the gateway says to a page of a
// dev server that hides the browser's Host.
func TestE2EProxyPage(t *testing.T) {
	files, err := filepath.Glob("../../deploy/proxies/*")
	if err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile("../../deploy/proxies/README.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if name := filepath.Base(file); name != "README.md" && !strings.Contains(string(page), "("+name+")") {
			t.Errorf("the page does not link to %s", name)
		}
	}
	environment(t, storetest.CRM(t))
	g := serveInTest(t)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, g.public+streamPath, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Origin", "http://localhost:5173")
	req.Header.Set("Cookie", "notifications_token="+mint(t, "5"))
	g.readyz(t, 200)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var answer struct{ Error string }
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil || resp.StatusCode != http.StatusForbidden {
		t.Fatalf("%d, %v", resp.StatusCode, err)
	}
	if !strings.Contains(answer.Error, "GATEWAY_ALLOWED_ORIGINS") || !strings.Contains(string(page), answer.Error) {
		t.Errorf("the page does not have %q", answer.Error)
	}
}
