package storetest_test

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/seed-64e334f9/notification-gateway/store/storetest"
)

func TestMain(m *testing.M) { os.Exit(storetest.Main(m)) }

// Whoever asks for one Postgres and does not get it must not read "ok" below
// tests that were all skipped.
func TestUnmetRequestFails(t *testing.T) {
	if os.Getenv("STORETEST_CHILD") != "" {
		storetest.Database(t)
		return
	}
	child := exec.Command(os.Args[0], "-test.run", "^TestUnmetRequestFails$")
	child.Env = append(os.Environ(), "STORETEST_CHILD=1", "CI=", "NOTIFICATION_GATEWAY_POSTGRES=bogus")
	if out, err := child.CombinedOutput(); err == nil || !strings.Contains(string(out), "must be url, container, local or download") {
		t.Errorf("%v: %s", err, out)
	}
}
