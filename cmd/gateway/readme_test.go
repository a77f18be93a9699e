package main

import (
	"cmp"
	"fmt"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

// generated holds a part of a page against what the program says it is. With
// UPDATE_README set it writes that part instead.
func generated(t *testing.T, file, name, want string) {
	t.Helper()
	file = repository + "/" + file
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	begin, end := "<!-- "+name+" -->\n", "<!-- end of "+name+" -->"
	head, rest, ok1 := strings.Cut(string(text), begin)
	got, tail, ok2 := strings.Cut(rest, end)
	if !ok1 || !ok2 {
		t.Fatalf("%s has no place for the part %q", file, name)
	}
	if os.Getenv("UPDATE_README") != "" {
		if err := os.WriteFile(file, []byte(head+begin+want+end+tail), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if got != want {
		t.Errorf("the part %q of %s is out of date: UPDATE_README=1 go test -run README ./cmd/gateway", name, file)
	}
}

// The table in deploy/README.md must be what the program reads.
func TestREADMEConfiguration(t *testing.T) {
	generated(t, "deploy/README.md", "configuration", configurationTable())
}

// The table of metrics in deploy/operations.md must have those that a gateway with
// all its parts has, with their labels. Nothing is connected to for it.
func TestREADMEMetrics(t *testing.T) {
	environment(t, "postgres://postgres@127.0.0.1:1/x")
	t.Setenv("GATEWAY_JWKS_URL", "http://127.0.0.1:1/keys")
	t.Setenv("GATEWAY_AUTH_URL", "http://127.0.0.1:1/me")
	c, err := readConfig()
	if err == nil {
		err = c.validateServe()
	}
	if err != nil {
		t.Fatal(err)
	}
	s, err := assemble(t.Context(), c, newLogger(c, t.Output()))
	if err != nil {
		t.Fatal(err)
	}
	defer s.store.Close()
	generated(t, "deploy/operations.md", "every metric", metricsTable(t, s.registry))
}

// description is what a registered metric says of itself: it has no other way out.
var description = regexp.MustCompile(`^Desc\{fqName: "notification_gateway_(\w+)", help: "(.*?)", (?:unit: "[^"]*", )?constLabels: \{[^}]*\}, variableLabels: \{([\w,]*)\}\}$`)

// metricsTable writes the table of deploy/operations.md from a registry.
func metricsTable(t *testing.T, registry *prometheus.Registry) string {
	t.Helper()
	descriptions := make(chan *prometheus.Desc)
	go func() { registry.Describe(descriptions); close(descriptions) }()
	var rows [][]string
	for d := range descriptions {
		if m := description.FindStringSubmatch(d.String()); m != nil {
			rows = append(rows, m)
		} else if strings.Contains(d.String(), "notification_gateway") {
			t.Errorf("the description of a metric has another form: %s", d)
		}
	}
	if len(rows) < 20 {
		t.Fatalf("there are %d metrics", len(rows))
	}
	slices.SortFunc(rows, func(x, y []string) int { return cmp.Compare(x[1], y[1]) })
	var b strings.Builder
	b.WriteString("| metric | labels | |\n|---|---|---|\n")
	for _, m := range rows {
		labels := ""
		if m[3] != "" {
			labels = "`" + strings.ReplaceAll(m[3], ",", "`, `") + "`"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", m[1], labels, m[2])
	}
	return b.String()
}

// configurationTable writes the table of deploy/README.md from the tags of config.
func configurationTable() string {
	var b strings.Builder
	b.WriteString("| variable | default | |\n|---|---|---|\n")
	kind := reflect.TypeFor[config]()
	for i := range kind.NumField() {
		tag := kind.Field(i).Tag
		name := tag.Get("envconfig")
		if name == "" {
			continue
		}
		value := tag.Get("default")
		if value != "" {
			value = "`" + value + "`"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", name, value, tag.Get("desc"))
	}
	return b.String()
}
