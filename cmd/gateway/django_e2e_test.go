//go:build e2e

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/seed-64e334f9/notification-gateway/store/throwaway"
)

const djangoSource = "../../deploy/django"

// snippet is a block of deploy/django/README.md.
type snippet struct{ language, text string }

var fence = regexp.MustCompile("(?ms)^```(\\w+(?: \\w+)?)\n(.*?)^```$")

// django is a copy of deploy/django, and what its README has run so far.
type django struct {
	*testing.T
	dir      string
	env      map[string]string
	server   *throwaway.Server
	snippets []snippet // of the page that have not been run
	last     snippet   // that was
	took     []string
	public   string // the gateway's address
	crm      string // Django's
}

// newDjango copies the project without what the page adds to it, onto a Postgres
// of its own with the database and the role that a CRM has.
func newDjango(t *testing.T) *django {
	t.Helper()
	server, err := throwaway.StartLocal(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Stop(); err != nil {
			t.Error(err)
		}
	})
	d := &django{T: t, dir: t.TempDir(), server: server, public: freeAddress(t), crm: freeAddress(t)}
	admin := open(t, server.URL)
	for _, statement := range []string{"CREATE ROLE crm LOGIN CREATEDB", "CREATE DATABASE crm OWNER crm"} {
		if err := admin.Exec(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	as := func(role string) string {
		u, err := url.Parse(server.URL)
		if err != nil {
			t.Fatal(err)
		}
		u.User, u.Path = url.User(role), "/crm"
		return u.String()
	}
	if err := os.CopyFS(d.dir, os.DirFS(djangoSource)); err != nil {
		t.Fatal(err)
	}
	made, err := filepath.Glob(filepath.Join(d.dir, "crm/migrations/gateway_*.sql"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range append(made, filepath.Join(d.dir, "crm/migrations/0002_gateway.py")) {
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
	}
	page, err := os.ReadFile(djangoSource + "/README.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, block := range fence.FindAllSubmatch(page, -1) {
		d.snippets = append(d.snippets, snippet{string(block[1]), string(block[2])})
	}
	programs := t.TempDir()
	if out, err := exec.Command("go", "build", "-o", filepath.Join(programs, "gateway"), ".").CombinedOutput(); err != nil {
		t.Fatalf("build the gateway: %v\n%s", err, out)
	}
	d.env = map[string]string{
		"PATH": programs + ":/usr/bin:" + os.Getenv("PATH"), "HOME": d.dir, "LANG": "C.UTF-8", "PYTHONDONTWRITEBYTECODE": "1",
		"ADMIN_DATABASE_URL": as("postgres"), "DATABASE_URL": as("crm"), "RUNTIME_DATABASE_URL": as("gateway"), "JWT_SECRET": testSecret,
		"GATEWAY_ADDR": d.public, "GATEWAY_ADMIN_ADDR": freeAddress(t), "GATEWAY_PING_INTERVAL": "2s", "GATEWAY_DRAIN": "1s",
	}
	return d
}

// command is a shell that runs a script in the project, as the page's reader would.
func (d *django) command(script string) *exec.Cmd {
	script = strings.ReplaceAll(script, "127.0.0.1:8000", d.crm)
	cmd := exec.Command("/bin/bash", "-euo", "pipefail", "-c", script)
	cmd.Dir = d.dir
	for _, name := range slices.Sorted(maps.Keys(d.env)) {
		cmd.Env = append(cmd.Env, name+"="+d.env[name])
	}
	return cmd
}

// run runs a script to its end.
func (d *django) run(script string) string {
	d.Helper()
	began := time.Now()
	out, err := d.command(script).CombinedOutput()
	if err != nil {
		d.Fatalf("%v\n%s\n%.6000s", err, script, out)
	}
	d.note(script, time.Since(began))
	return string(out)
}

func (d *django) note(script string, took time.Duration) {
	first, _, _ := strings.Cut(script, "\n")
	d.took = append(d.took, fmt.Sprintf("%5.1f s  %s", took.Seconds(), first))
}

// shell runs Python in the project.
func (d *django) shell(code string) {
	d.Helper()
	d.run("python3 manage.py shell <<'EOF'\nfrom crm.models import *\nfrom django.db import transaction\nalice = Employee.objects.get(email='alice@example.com')\n" +
		"def note(title): return Notification(user=alice, notification_type='x', title=title, message='m')\n" + code + "\nEOF")
}

// serve starts a script that runs until stop, and waits until something answers.
func (d *django) serve(script, address string) (stop func()) {
	d.Helper()
	began := time.Now()
	cmd := d.command(strings.TrimSuffix(script, "\n")) // bash executes the last command in its own process only if we say so
	last := strings.LastIndex(cmd.Args[len(cmd.Args)-1], "\n") + 1
	cmd.Args[len(cmd.Args)-1] = cmd.Args[len(cmd.Args)-1][:last] + "exec " + cmd.Args[len(cmd.Args)-1][last:]
	log, err := os.Create(filepath.Join(d.TempDir(), "log"))
	if err != nil {
		d.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = log, log
	exited, err := throwaway.StartTied(cmd)
	if err != nil {
		d.Fatal(err)
	}
	stop = func() {
		cmd.Process.Signal(syscall.SIGTERM) //nolint:errcheck // it may have ended already
		<-exited
		log.Close()
		if text, err := os.ReadFile(log.Name()); err == nil && d.Failed() {
			d.Logf("%s\n%.6000s", script, text)
		}
	}
	d.Cleanup(stop)
	look := time.NewTicker(20 * time.Millisecond)
	defer look.Stop()
	for deadline := time.Now().Add(proxyPatience); ; <-look.C {
		if resp, err := http.Get(address); err == nil {
			resp.Body.Close()
			if resp.StatusCode != http.StatusServiceUnavailable {
				break
			}
		}
		if time.Now().After(deadline) {
			d.Fatalf("does not answer: %s", script)
		}
	}
	d.note(script, time.Since(began))
	return stop
}

// apply carries out the page's blocks up to one that holds text, and leaves those
// after it.
func (d *django) apply(upTo string) {
	d.Helper()
	for len(d.snippets) > 0 {
		s := d.snippets[0]
		d.snippets, d.last = d.snippets[1:], s
		d.one(s)
		if strings.Contains(s.text, upTo) {
			return
		}
	}
	d.Fatalf("the page has no block with %q", upTo)
}

func (d *django) one(s snippet) {
	d.Helper()
	switch s.language {
	case "sh":
		d.run(s.text)
	case "sh server":
		address := "http://" + d.crm + "/"
		if strings.Contains(s.text, "gateway serve") {
			address = "http://" + d.env["GATEWAY_ADMIN_ADDR"] + "/readyz"
		}
		d.serve(s.text, address)
	case "sh sessions":
		d.bySession(s.text)
	case "python":
		first, text, _ := strings.Cut(s.text, "\n")
		name := strings.TrimPrefix(first, "# ")
		if shipped, err := os.ReadFile(filepath.Join(djangoSource, name)); err != nil || string(shipped) != text {
			d.Errorf("the page's %s is not the project's: %v", name, err)
		}
		if err := os.WriteFile(filepath.Join(d.dir, name), []byte(text), 0o600); err != nil {
			d.Fatal(err)
		}
	case "js":
		script, err := os.ReadFile(filepath.Join(d.dir, "crm/templates/page.js"))
		if indented := "  " + strings.ReplaceAll(strings.TrimSuffix(s.text, "\n"), "\n", "\n  "); err != nil || !strings.Contains(string(script), indented) {
			d.Errorf("the page's script is not in page.js: %v", err)
		}
	default:
		d.Fatalf("a block of %q", s.language)
	}
}

// events reads a stream that asks for changes and counts.
type events struct {
	*django
	lines *bufio.Scanner
	seen  []event
}

type event struct{ kind, data string }

// listen signs Alice in by SimpleJWT and opens a stream of hers through the proxy.
func (d *django) listen(f *front) *events {
	d.Helper()
	client := f.client(2, nil)
	body := `{"username":"alice@example.com","password":"correct horse"}`
	resp, err := client.Post("https://"+proxyHost+"/api/token/", "application/json", strings.NewReader(body))
	if err != nil {
		d.Fatal(err)
	}
	defer resp.Body.Close()
	var tokens struct{ Access string }
	if err := json.NewDecoder(resp.Body).Decode(&tokens); err != nil || tokens.Access == "" {
		d.Fatalf("sign in: %d, %v", resp.StatusCode, err)
	}
	stream, err := f.ask(client, http.MethodGet, proxied+"?changes=true&count=true", tokens.Access)
	if err != nil {
		d.Fatal(err)
	}
	d.Cleanup(func() { stream.Body.Close() })
	if stream.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(stream.Body)
		d.Fatalf("stream: %d %s", stream.StatusCode, text)
	}
	e := &events{django: d, lines: bufio.NewScanner(stream.Body)}
	e.lines.Buffer(nil, 1<<20)
	e.until("connected", `"user"`)
	return e
}

// until reads to an event of a kind whose data holds a text, and returns those
// that were read since the last call, itself included.
func (e *events) until(kind, text string) []event {
	e.Helper()
	e.seen = nil
	var now event
	for e.lines.Scan() {
		name, value, _ := strings.Cut(e.lines.Text(), ": ")
		switch name {
		case "event":
			now.kind = value
		case "data":
			now.data = value
			e.seen = append(e.seen, now)
			if now.kind == kind && strings.Contains(now.data, text) {
				return e.seen
			}
		}
	}
	e.Fatalf("the stream ended before %s %q; it had %v: %v", kind, text, e.seen, e.lines.Err())
	return nil
}

// count is how many events of a kind have data that holds a text.
func count(all []event, kind, text string) (n int) {
	for _, e := range all {
		if e.kind == kind && strings.Contains(e.data, text) {
			n++
		}
	}
	return n
}

// The page of deploy/django must lead from a Django project to live notifications
// in a browser, and everything that a Django team does must go on working then.
func TestE2EDjango(t *testing.T) {
	d := newDjango(t)
	began := time.Now()
	d.apply("create_user")
	alice := d.last
	bare := d.public
	f := proxies()["nginx"].start(t, upstreams{crm: d.crm, a: bare, b: bare})
	tab := newTab(t, f)
	tab.navigate("https://" + proxyHost + "/")
	tab.do(`document.querySelector("[name=username]").value = "alice@example.com"; document.querySelector("[name=password]").value = "correct horse"; document.querySelector("#login button").click()`)
	tab.until(`document.querySelector("#status").textContent.startsWith("live")`)
	d.apply("It works.")
	tab.until(`document.querySelector("#notifications li")?.textContent === "Hello"`)
	t.Logf("from the project to a notification in Chromium: %.0f s\n%s", time.Since(began).Seconds(), strings.Join(d.took, "\n"))

	tab.until(`document.querySelector("#unread").textContent === "1"`)
	tab.do(`document.querySelector("#notifications li").click()`) // the CRM's own API
	tab.until(`document.querySelector("#notifications li").className === "read" && document.querySelector("#unread").textContent === "0"`)

	d.writes(d.listen(f))
	d.apply("GATEWAY_AUTH_URL")
	d.apply("--parallel")
	d.squash()
	e := d.listen(f)
	d.run("python3 manage.py flush --noinput")
	e.until("refresh", "bulk")
	d.one(alice)
	d.migrations(d.listen(f))
	for _, s := range d.snippets {
		t.Errorf("nobody ran %q", s.text)
	}
}

// bySession is a browser that Django's own session signs in, and signs out.
func (d *django) bySession(serve string) {
	d.Helper()
	d.env["GATEWAY_ADDR"], d.env["GATEWAY_ADMIN_ADDR"], d.env["GATEWAY_RECIPIENT_CHECK"] = freeAddress(d.T), freeAddress(d.T), "1s"
	d.serve(serve, "http://"+d.env["GATEWAY_ADMIN_ADDR"]+"/readyz")
	f := proxies()["nginx"].start(d.T, upstreams{crm: d.crm, a: d.env["GATEWAY_ADDR"], b: d.env["GATEWAY_ADDR"]})
	tab := newTab(d.T, f)
	tab.navigate("https://" + proxyHost + "/login/")
	tab.do(`document.querySelector("[name=username]").value = "alice@example.com"; document.querySelector("[name=password]").value = "correct horse"; document.querySelector("button").click()`)
	tab.until(`location.pathname === "/" && document.querySelector("#status")?.textContent.startsWith("live")`)
	if n := eval[int](tab, `performance.getEntriesByType("resource").filter((e) => /token/.test(e.name)).length + (localStorage.getItem("tokens") === null ? 0 : 1)`); n != 0 {
		d.Errorf("a page with a session has tokens")
	}
	d.shell(`note("by a session").save()`)
	tab.until(`[...document.querySelectorAll("#notifications li.unread")].some((e) => e.textContent === "by a session")`)
	tab.do(`document.querySelector("#all").click()`)
	tab.until(`document.querySelector("#notifications li.unread") === null && document.querySelector("#unread").textContent === "0"`)
	tab.do(`fetch("/logout/")`)
	tab.until(`document.querySelector("#status").textContent.startsWith("signed-out")`)
}

// squash lets Django merge the migrations, and runs the CRM's tests from what it
// made of them.
func (d *django) squash() {
	d.Helper()
	d.run("python3 manage.py squashmigrations crm 0001 0002 --noinput")
	out := d.run("python3 manage.py test --noinput --verbosity 2 2>&1")
	if !strings.Contains(out, "Applying crm.0001_initial_squashed_0002_gateway... OK") {
		d.Errorf("the test database was not made by the squashed migration:\n%s", out)
	}
}
