package main

import (
	"bytes"
	"strings"
	"testing"
)

// A script that is to go into another tool's migration must not need a database
// while it is written, and a flag that does nothing alone must be refused.
func TestPrintNeedsNoDatabase(t *testing.T) {
	t.Setenv("DATABASE_URL", "")
	for _, c := range []struct {
		args   []string
		status int
		says   string
	}{
		{[]string{"migrate", "--print", "--no-transaction"}, 0, "run this script inside of a transaction"},
		{[]string{"migrate", "--print", "--from", "1"}, 0, "this script begins after 1"},
		{[]string{"migrate", "--print", "--from", "999"}, 2, "there is no version 999"},
		{[]string{"attach", "crm.note", "--print"}, 0, "COMMIT;"},
		{[]string{"migrate", "--from", "1"}, 2, "go with --print"},
		{[]string{"attach", "crm.note", "--no-transaction"}, 2, "go with --print"},
	} {
		var out bytes.Buffer
		if status := run(t.Context(), c.args, &out, &out); status != c.status || !strings.Contains(out.String(), c.says) {
			t.Errorf("%v: status %d, want %q: %.300s", c.args, status, c.says, &out)
		}
	}
}
