//go:build e2e && linux

package main

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/seed-64e334f9/notification-gateway/store/storetest"
)

// runbook carries out procedures of deploy/operations.md inside a machine.
type runbook struct {
	*machine
	page        string
	environment []string
	carriedOut  map[string]bool // headings
}

// do runs the commands that stand under a heading, as root, and ends the test when
// one of them fails.
func (r *runbook) do(heading string) string {
	r.Helper()
	_, section, found := strings.Cut(r.page, "\n### "+heading+"\n")
	section, _, _ = strings.Cut(section, "\n### ")
	block := regexp.MustCompile("(?s)```sh\n(.*?)```").FindStringSubmatch(section)
	if !found || block == nil {
		r.Fatalf("the run book has no commands under %q", heading)
	}
	// The machine's /usr is this one's and cannot be written; its ports are others.
	script := strings.NewReplacer("/usr/local/bin/gateway", "/opt/gateway", "http://127.0.0.1:9090", r.admin).Replace(block[1])
	args := []string{"--target", strconv.Itoa(r.pid), "--pid", "--mount", "--ipc", "--uts", "--cgroup", "env", "-i"}
	args = append(append(args, r.environment...), "bash", "-euc", "cd /root\n"+script)
	out, err := exec.Command("nsenter", args...).CombinedOutput()
	if err != nil {
		r.Fatalf("%s: %v\n%s\n%s", heading, err, script, out)
	}
	r.carriedOut[heading] = true
	return string(out)
}

// holdProcedures looks for procedures that nobody has carried out and that neither
// say so nor name a test.
func (r *runbook) holdProcedures() {
	r.Helper()
	_, procedures, _ := strings.Cut(r.page, "\n## Procedures\n")
	procedures, _, _ = strings.Cut(procedures, "\n## ")
	for i, section := range strings.Split(procedures, "\n### ") {
		heading, text, _ := strings.Cut(section, "\n")
		if i == 0 || r.carriedOut[heading] {
			continue
		}
		if strings.Contains(text, "```sh") || !strings.Contains(text, "*not tried*") && !strings.Contains(text, "(`Test") {
			r.Errorf("the procedure %q was not carried out, and does not say so", heading)
		}
	}
}

// set gives the commands a variable.
func (r *runbook) set(name, value string) {
	r.environment = append(r.environment, name+"="+value)
}

// A procedure that nobody has carried out is wrong when it is needed. The streams
// are held over each of them.
func TestE2ERunbook(t *testing.T) {
	_, owner := storetest.OwnCRM(t)
	environment(t, owner)
	db := open(t, owner)
	if err := db.Exec(t.Context(), "CREATE ROLE gateway LOGIN"); err != nil {
		t.Fatal(err)
	}
	if status := run(t.Context(), []string{"migrate", "--grant-to", "gateway"}, io.Discard, os.Stderr); status != 0 {
		t.Fatalf("migrate: %d", status)
	}
	runtime := at(t, owner, "gateway", "crm")
	r := &runbook{machine: boot(t, runtime, "Environment=GATEWAY_DRAIN=1s\n"), carriedOut: map[string]bool{}}
	page, err := os.ReadFile(runbookFile)
	if err != nil {
		t.Fatal(err)
	}
	r.page = string(page)
	r.set("PATH", "/opt:"+clientsOfPostgres(t)+":/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
	r.set("OWNER", owner)
	r.set("DATABASE_URL", runtime)
	r.set("GATEWAY_ADMIN_ADDR", strings.TrimPrefix(r.admin, "http://"))
	r.set("GATEWAY_JWT_SECRET_FILE", "/etc/notification-gateway/jwt-secret")
	r.set("GATEWAY_RECIPIENT", "claim")
	next := exec.Command("go", "build", "-ldflags", "-X main.stampedVersion=v9.9.9", "-o", filepath.Join(r.root, "root/gateway-linux-amd64"), ".")
	if out, err := next.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	r.eventually("the gateway is ready", r.ready)
	old := mint(t, "5")
	id := until(t, r.stream(t, old, ""), "Connected")

	if out := r.do("Look"); !strings.Contains(out, `"ready":true`) || !strings.Contains(out, "streams: ") {
		t.Errorf("a look shows\n%s", out)
	}

	// The next program runs beside the old one, and each takes the other's cursors.
	beside := serveInTest(t)
	beside.readyz(t, http.StatusOK)
	insertRow(t, db, "while it is upgraded")
	until(t, r.stream(t, old, until(t, beside.stream(t, old, ""), "Connected")), "Connected")
	until(t, beside.stream(t, old, id), `"title":"while it is upgraded"`)
	r.do("Upgrade")
	if version := r.scrape(t); !strings.Contains(version, `version="v9.9.9"`) {
		t.Error("another version runs than the new one")
	}
	lines := r.stream(t, old, id)
	id = until(t, lines, `"title":"while it is upgraded"`)

	insertRow(t, db, "while the secret is rotated")
	r.do("Rotate")
	secrets, err := os.ReadFile(filepath.Join(r.root, "etc/notification-gateway/jwt-secret"))
	if err != nil {
		t.Fatal(err)
	}
	secret, _, _ := strings.Cut(string(secrets), ",")
	t.Setenv("GATEWAY_JWT_SECRET", secret)
	for _, token := range []string{old, mint(t, "5")} {
		until(t, r.stream(t, token, id), `"title":"while the secret is rotated"`)
	}

	r.do("Fail over")

	restored := at(t, owner, "", "crm_restored")
	r.set("RESTORED_OWNER", restored)
	r.set("RESTORED", at(t, owner, "gateway", "crm_restored"))
	r.do("Restore")
	lines = r.stream(t, old, id)
	until(t, lines, "event: reset")
	insertRow(t, open(t, restored), "after the restore")
	until(t, lines, `"title":"after the restore"`)

	r.set("OWNER", restored)
	r.do("Remove")
	if state := r.show("ActiveState"); state != "inactive" {
		t.Errorf("the service is %s", state)
	}
	r.holdProcedures()
	there := open(t, restored)
	insertRow(t, there, "after the removal")
	if err := there.Exec(t.Context(), "CREATE SCHEMA notification_gateway"); err != nil {
		t.Errorf("the schema is left: %v", err)
	}
}

// at is a connection string for another role, if one is given, and database.
func at(t *testing.T, text, role, database string) string {
	t.Helper()
	u, err := url.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	if role != "" {
		u.User = url.User(role)
	}
	u.Path = "/" + database
	return u.String()
}

// clientsOfPostgres is the folder of the newest pg_dump, which reads all servers
// of its version and before.
func clientsOfPostgres(t *testing.T) string {
	t.Helper()
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/pg_dump")
	if err != nil || len(found) == 0 {
		t.Fatalf("pg_dump is missing: %v", fmt.Sprint(err))
	}
	slices.Sort(found)
	return filepath.Dir(found[len(found)-1])
}
