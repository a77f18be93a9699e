//go:build e2e

package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/seed-64e334f9/notification-gateway/cmd/bench/internal/report"
)

// The report is what the README's figures come from: every section must run
// against the real gateway, and count what it sends.
func TestE2EReport(t *testing.T) {
	names := []string{"memory", "cpu", "pings", "storm", "growth", "latency", "changes", "replicas", "database"}
	var out, log bytes.Buffer
	code := run(t.Context(), []string{"report", "--only", strings.Join(names, ","), "--scale", "0.005", "--json"}, &out, &log)
	if code != 0 {
		t.Fatalf("status %d: %s", code, &log)
	}
	var found report.Results
	if err := json.Unmarshal(out.Bytes(), &found); err != nil {
		t.Fatal(err)
	}
	sections := map[string]int{}
	for _, l := range found.Lines {
		sections[l.Section]++
		if strings.Contains(l.What, "rows") && l.Met != nil && !*l.Met { // lost or doubled, not too slow
			t.Errorf("%+v", l)
		}
	}
	for _, name := range names {
		if sections[name] == 0 {
			t.Errorf("section %s says nothing", name)
		}
	}
}
