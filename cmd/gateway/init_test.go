package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/seed-64e334f9/notification-gateway/store/storetest"
)

// The commands that init prints must be those that an adopter runs next.
func TestInitIsFollowedByItsCommands(t *testing.T) {
	url := storetest.CRM(t)
	environment(t, url)
	file := filepath.Join(t.TempDir(), "first.sql")
	call := func(want int, args ...string) string {
		t.Helper()
		var out bytes.Buffer
		if status := run(t.Context(), args, &out, &out); status != want {
			t.Errorf("gateway %q: status %d, want %d: %s", args, status, want, &out)
		}
		return out.String()
	}
	if text := call(0, "init"); !strings.Contains(text, "CREATE VIEW notification_gateway.feed") || !strings.Contains(text, "--   gateway migrate --mapping mapping.sql") {
		t.Errorf("init says %s", text)
	}
	text := call(0, "init", "notifications", "--out", file)
	var commands [][]string
	for line := range strings.Lines(text) {
		if words := strings.Fields(strings.NewReplacer("'", "", " --grant-to gateway_role", "").Replace(line)); len(words) > 1 && words[0] == "gateway" {
			commands = append(commands, words[1:])
		}
	}
	if len(commands) != 3 {
		t.Fatalf("init names %q in\n%s", commands, text)
	}
	for _, command := range commands {
		call(0, command...)
	}
	if content, err := os.ReadFile(file); err != nil || !strings.Contains(string(content), "gateway attach public.notifications --on-update is_read --on-delete") {
		t.Errorf("the file says %s, %v", content, err)
	}
	call(2, "init", "notifications", "--out", file) // it may have been mended by hand
	call(2, "init", "notifications", "employees")
	call(1, "init", "nowhere")
}
