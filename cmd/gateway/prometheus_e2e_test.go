//go:build e2e

package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/seed-64e334f9/notification-gateway/store/storetest"
)

const (
	alertsFile     = "../../deploy/prometheus/alerts.yaml"
	alertsTestFile = "../../deploy/prometheus/alerts.test.yaml"
	dashboardFile  = "../../deploy/grafana/dashboard.json"
	runbookFile    = "../../deploy/operations.md"
)

// publicKey is a key set of RFC 7517 appendix A.1.
const publicKey = `{"keys":[{"kty":"EC","crv":"P-256","kid":"1","x":"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4","y":"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM"}]}`

// alert is a rule as a running Prometheus has parsed it.
type alert struct {
	Name, Query, Health, LastError string
	Labels, Annotations            map[string]string
}

// promQuery is one query of the dashboard.
type promQuery struct{ panel, expr, legend string }

// families are the metrics of a scrape: name, label, values.
type families map[string]map[string]map[string]bool

// An alert that names a metric or a label which the gateway does not have never
// fires, and a panel stays empty without a word. So both are held against what a
// real Prometheus scraped from a real run that has all parts: streams, a feed, a
// key set and a CRM that is asked. Grafana itself is not run.
func TestE2EAlertsAndDashboard(t *testing.T) {
	for _, args := range [][]string{
		{"check", "rules", alertsFile},
		{"test", "rules", alertsTestFile},
		{"check", "config", "--syntax-only", "../../deploy/compose/prometheus.yaml"},
	} {
		promtool(t, args...)
	}
	gateway := serveWithAllParts(t)
	scraped := parseScrape(gateway.scrape(t))
	server := startPrometheus(t, strings.TrimPrefix(gateway.admin, "http://"))
	alerts, queries := server.alerts(t), dashboardQueries(t)

	for _, a := range alerts {
		scraped.hold(t, "alert "+a.Name, a.Query, a.Annotations["summary"])
	}
	var rules strings.Builder
	rules.WriteString("groups:\n  - name: dashboard\n    rules:\n")
	for i, q := range queries {
		scraped.hold(t, "panel "+q.panel, q.expr, q.legend)
		fmt.Fprintf(&rules, "      - {record: 'query_%d', expr: '%s'}\n", i, strings.ReplaceAll(q.expr, "'", "''"))
	}
	for name := range scraped {
		base := suffix.ReplaceAllString(name, "")
		if strings.HasPrefix(name, "notification_gateway_") && !strings.Contains(rules.String(), base) {
			t.Errorf("the dashboard does not show %s", base)
		}
	}
	file := filepath.Join(t.TempDir(), "dashboard.yaml")
	if err := os.WriteFile(file, []byte(rules.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	promtool(t, "check", "rules", file)
	for _, q := range queries {
		server.answers(t, q)
	}
	holdRunbook(t, alerts, scraped)
	holdAlertTests(t, alerts)
}

func promtool(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.Command("promtool", args...).CombinedOutput(); err != nil {
		t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// serveWithAllParts runs a gateway that has a secret, a key set and a CRM to ask,
// and a stream that has got a row.
func serveWithAllParts(t *testing.T) *instance {
	database := storetest.CRM(t)
	environment(t, database)
	keys := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, publicKey) }))
	t.Cleanup(keys.Close)
	crm := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"id":5}`) }))
	t.Cleanup(crm.Close)
	t.Setenv("GATEWAY_JWKS_URL", keys.URL)
	t.Setenv("GATEWAY_AUTH_URL", crm.URL)
	i := serveInTest(t)
	i.readyz(t, http.StatusOK)
	lines := i.stream(t, mint(t, "5"), "")
	until(t, lines, "Connected")
	insertRow(t, open(t, database), "scraped")
	until(t, lines, `"title":"scraped"`)
	return i
}

var sample = regexp.MustCompile(`^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? `)

func parseScrape(text string) families {
	f := families{}
	for line := range strings.Lines(text) {
		m := sample.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		if f[m[1]] == nil {
			// What Prometheus adds to all that it scrapes.
			f[m[1]] = map[string]map[string]bool{"instance": {}, "job": {}}
		}
		for _, pair := range matcher.FindAllStringSubmatch(m[2], -1) {
			if f[m[1]][pair[1]] == nil {
				f[m[1]][pair[1]] = map[string]bool{}
			}
			f[m[1]][pair[1]][pair[3]] = true
		}
	}
	return f
}

var (
	selector  = regexp.MustCompile(`\b((?:notification_gateway|process|go)_[a-z0-9_]+)(?:\{([^}]*)\})?`)
	matcher   = regexp.MustCompile(`([a-zA-Z_]+)(=~|!~|!=|=)"([^"]*)"`)
	grouping  = regexp.MustCompile(`\b(?:by|on|without|ignoring|group_left|group_right) \(([^)]*)\)`)
	labelUsed = regexp.MustCompile(`\$labels\.([a-z_]+)|\{\{([a-z_]+)\}\}`)
)

// hold looks for each metric, label and value of a query, and each label of the
// text beside it, in what was scraped.
func (f families) hold(t *testing.T, who, query, text string) {
	t.Helper()
	labels := map[string]bool{} // of all metrics of the query
	found := selector.FindAllStringSubmatch(query, -1)
	if len(found) == 0 {
		t.Errorf("%s: the query %s names no metric", who, query)
	}
	for _, s := range found {
		if f[s[1]] == nil {
			t.Errorf("%s: the gateway has no metric %s", who, s[1])
			continue
		}
		for label := range f[s[1]] {
			labels[label] = true
		}
		for _, m := range matcher.FindAllStringSubmatch(s[2], -1) {
			values := f[s[1]][m[1]]
			if values == nil {
				t.Errorf("%s: %s has no label %s", who, s[1], m[1])
				continue
			}
			if m[1] == "instance" {
				continue
			}
			for value := range strings.SplitSeq(m[3], "|") {
				if !values[value] {
					t.Errorf("%s: %s has no %s %q", who, s[1], m[1], value)
				}
			}
		}
	}
	grouped, isGrouped := map[string]bool{}, false
	for _, g := range grouping.FindAllStringSubmatch(query, -1) {
		isGrouped = isGrouped || strings.HasPrefix(g[0], "by")
		for label := range strings.SplitSeq(strings.ReplaceAll(g[1], " ", ""), ",") {
			if label != "" && !labels[label] {
				t.Errorf("%s: no metric of it has the label %s", who, label)
			}
			grouped[label] = true
		}
	}
	for _, m := range labelUsed.FindAllStringSubmatch(text, -1) {
		if label := m[1] + m[2]; !labels[label] || isGrouped && !grouped[label] {
			t.Errorf("%s: %q names the label %s, which the result has not", who, text, label)
		}
	}
}

// dashboardQueries returns the queries with a value for each variable.
func dashboardQueries(t *testing.T) (queries []promQuery) {
	t.Helper()
	text, err := os.ReadFile(dashboardFile)
	if err != nil {
		t.Fatal(err)
	}
	var d struct {
		Templating struct {
			List []struct {
				Name, Type string
				Query      json.RawMessage // a text or an object
			}
		}
		Panels []struct {
			Title, Type string
			Datasource  struct{ UID string }
			Targets     []struct {
				Expr, LegendFormat string
				Datasource         struct{ UID string }
			}
		}
	}
	if err := json.Unmarshal(text, &d); err != nil {
		t.Fatal(err)
	}
	if v := d.Templating.List; len(v) == 0 || v[0].Name != "datasource" || v[0].Type != "datasource" || string(v[0].Query) != `"prometheus"` {
		t.Errorf("the dashboard's first variable is not the data source: %+v", v)
	}
	for _, p := range d.Panels {
		if p.Type != "row" && len(p.Targets) == 0 {
			t.Errorf("panel %s has no query", p.Title)
		}
		for _, target := range p.Targets {
			if p.Datasource.UID != "${datasource}" || target.Datasource.UID != "${datasource}" {
				t.Errorf("panel %s does not take the data source of the variable", p.Title)
			}
			expr := strings.NewReplacer("$__rate_interval", "1m", "$instance", ".*").Replace(target.Expr)
			if strings.Contains(expr, "$") {
				t.Errorf("panel %s has a variable that nothing fills: %s", p.Title, expr)
			}
			queries = append(queries, promQuery{p.Title, expr, target.LegendFormat})
		}
	}
	return queries
}

// promServer is the base URL of a running Prometheus that scrapes a gateway.
type promServer string

var listens = regexp.MustCompile(`msg="Listening on" address=(\S+)`)

func startPrometheus(t *testing.T, target string) promServer {
	t.Helper()
	rules, err := filepath.Abs(alertsFile)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	config := fmt.Sprintf("global: {scrape_interval: 1s, evaluation_interval: 1s}\nrule_files: [%q]\nscrape_configs: [{job_name: gateway, static_configs: [{targets: [%q]}]}]\n", rules, target)
	if err := os.WriteFile(filepath.Join(dir, "prometheus.yml"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "prometheus", "--config.file="+filepath.Join(dir, "prometheus.yml"),
		"--storage.tsdb.path="+filepath.Join(dir, "data"), "--web.listen-address=127.0.0.1:0")
	log, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill() // it may have ended
		cmd.Wait()         // it was killed
	})
	address := make(chan string, 1) // one, once
	go func() {
		defer close(address)
		for lines := bufio.NewScanner(log); lines.Scan(); {
			if m := listens.FindStringSubmatch(lines.Text()); m != nil {
				address <- m[1]
			}
		}
	}()
	select {
	case a, ok := <-address:
		if ok {
			return promServer("http://" + a)
		}
		t.Fatal("Prometheus ended at once")
	case <-time.After(30 * time.Second):
		t.Fatal("Prometheus does not listen")
	}
	return ""
}

// get asks the API; it reports whether that answered with success.
func (p promServer) get(t *testing.T, path string, data any) (ok bool, said string) {
	t.Helper()
	resp, err := http.Get(string(p) + "/api/v1/" + path)
	if err != nil {
		return false, err.Error()
	}
	defer resp.Body.Close()
	answer := struct {
		Status, Error string
		Data          any
	}{Data: data}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		return false, err.Error()
	}
	return answer.Status == "success", answer.Error
}

// eventually asks again and again until something holds.
func (p promServer) eventually(t *testing.T, holds func() (bool, string)) {
	t.Helper()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(30 * time.Second); ; <-tick.C {
		ok, said := holds()
		if ok {
			return
		}
		if time.Now().After(deadline) {
			t.Errorf("Prometheus: %s", said)
			return
		}
	}
}

// alerts returns the rules once each of them has been evaluated over the scrape.
func (p promServer) alerts(t *testing.T) (alerts []alert) {
	t.Helper()
	p.eventually(t, func() (bool, string) {
		var data struct{ Groups []struct{ Rules []alert } }
		if ok, said := p.get(t, "rules", &data); !ok || len(data.Groups) == 0 {
			return false, "no rules " + said
		}
		alerts = data.Groups[0].Rules
		for _, a := range alerts {
			if a.Health != "ok" {
				return false, fmt.Sprintf("alert %s is %s %s", a.Name, a.Health, a.LastError)
			}
		}
		return true, ""
	})
	return alerts
}

// answers waits until a query of the dashboard finds a series.
func (p promServer) answers(t *testing.T, q promQuery) {
	t.Helper()
	p.eventually(t, func() (bool, string) {
		var data struct{ Result []json.RawMessage }
		ok, said := p.get(t, "query?query="+url.QueryEscape(q.expr), &data)
		return ok && len(data.Result) > 0, fmt.Sprintf("panel %s finds nothing with %s %s", q.panel, q.expr, said)
	})
}

var (
	heading    = regexp.MustCompile(`(?m)^#+ (.+)$`)
	codeSpan   = regexp.MustCompile("`([a-z_]+)(?:\\{[a-z]+\\})?`")
	tableOfAll = regexp.MustCompile(`(?s)<!-- metrics -->(.*)<!-- end of metrics -->`)
	suffix     = regexp.MustCompile(`_(bucket|sum|count)$`)
)

// holdRunbook looks for a heading for each alert, and a line for each metric.
func holdRunbook(t *testing.T, alerts []alert, scraped families) {
	t.Helper()
	text, err := os.ReadFile(runbookFile)
	if err != nil {
		t.Fatal(err)
	}
	var headings, names []string
	for _, m := range heading.FindAllStringSubmatch(string(text), -1) {
		if strings.HasPrefix(m[1], "NotificationGateway") {
			headings = append(headings, m[1])
		}
	}
	for _, a := range alerts {
		names = append(names, a.Name)
		if want := "https://github.com/seed-64e334f9/notification-gateway/blob/main/deploy/operations.md#" + strings.ToLower(a.Name); a.Annotations["runbook_url"] != want {
			t.Errorf("alert %s has the runbook_url %q, want %q", a.Name, a.Annotations["runbook_url"], want)
		}
		if s := a.Labels["severity"]; s != "critical" && s != "warning" && s != "info" {
			t.Errorf("alert %s has the severity %q", a.Name, s)
		}
		if a.Annotations["summary"] == "" {
			t.Errorf("alert %s has no summary", a.Name)
		}
	}
	slices.Sort(headings)
	slices.Sort(names)
	if !slices.Equal(headings, names) {
		t.Errorf("the headings for alerts in %s are\n%v, the alerts\n%v", runbookFile, headings, names)
	}
	table := tableOfAll.FindStringSubmatch(string(text))
	if table == nil {
		t.Fatalf("%s has no table of metrics", runbookFile)
	}
	listed := map[string]bool{}
	for line := range strings.Lines(table[1]) {
		if first, _, _ := strings.Cut(strings.TrimPrefix(line, "|"), "|"); strings.HasPrefix(line, "|") {
			for _, m := range codeSpan.FindAllStringSubmatch(first, -1) {
				listed["notification_gateway_"+m[1]] = true
			}
		}
	}
	for name := range scraped {
		name = suffix.ReplaceAllString(name, "")
		if strings.HasPrefix(name, "notification_gateway_") && !listed[name] {
			t.Errorf("%s does not list %s", runbookFile, name)
		}
	}
	for name := range listed {
		if scraped[name] == nil && scraped[name+"_bucket"] == nil {
			t.Errorf("%s lists %s, which the gateway does not have", runbookFile, name)
		}
	}
}

// holdAlertTests looks for a test in which each alert fires and one in which it
// does not.
func holdAlertTests(t *testing.T, alerts []alert) {
	t.Helper()
	text, err := os.ReadFile(alertsTestFile)
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range alerts {
		if !strings.Contains(string(text), "alertname: "+a.Name+", exp_alerts: []}") {
			t.Errorf("there is no test in which %s does not fire", a.Name)
		}
		if !strings.Contains(string(text), "alertname: "+a.Name+"\n        exp_alerts:\n          - exp_labels:") {
			t.Errorf("there is no test in which %s fires", a.Name)
		}
	}
}
