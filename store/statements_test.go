package store_test

import (
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/seed-64e334f9/notification-gateway/store"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// Some statements are put together from parts that they share. Each stands whole in
// testdata/statements, so that a reader can see it and a change of a part shows
// what it does to all.
func TestStatements(t *testing.T) {
	t.Parallel()
	statements := store.Statements()
	for name, text := range statements {
		file := filepath.Join("testdata", "statements", name+".sql")
		if *update {
			if err := os.WriteFile(file, []byte(text+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		golden, err := os.ReadFile(file)
		if err != nil || string(golden) != text+"\n" {
			t.Errorf("%s is not the statement %s (%v); go test ./store -run TestStatements -update writes it:\n%s", file, name, err, text)
		}
	}
	files, err := filepath.Glob(filepath.Join("testdata", "statements", "*"))
	if err != nil || len(files) != len(statements) {
		t.Errorf("%d files for %d statements, %v", len(files), len(statements), err)
	}
}
