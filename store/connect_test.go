package store_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/seed-64e334f9/notification-gateway/store"
)

// The pool connects inside any statement, and its error shows user, host and
// database: every error of the store ends in a log.
func TestErrorsDoNotShowTheConnectionString(t *testing.T) {
	t.Parallel()
	c, server := own(t)
	c.open(store.Config{Lookup: true})
	if err := server.Crash(); err != nil {
		t.Fatal(err)
	}
	for name, ask := range map[string]func() error{
		"a row": func() error { _, err := c.store.Recipient(t.Context(), "5"); return err },
		"rows":  func() error { _, err := c.store.Unread(t.Context(), "5", 10); return err },
	} {
		err := fmt.Errorf("not asked yet")
		for !strings.Contains(err.Error(), "refused") { // connections of the pool have to break first
			if err = ask(); err == nil {
				t.Fatal("a server that is gone has answered")
			}
		}
		if strings.Contains(err.Error(), "user=") || strings.Contains(err.Error(), "database=") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
