package main

import (
	"bufio"
	"bytes"
	"cmp"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/seed-64e334f9/notification-gateway/store/storetest"
	"github.com/seed-64e334f9/notification-gateway/store/throwaway"
)

// recipe is a section of a page that shows how a table is mapped: the blocks of
// code in it, in their order. The first are the tables, the mapping and the lines of
// gateway attach. Then the application's statements and what each has told follow in
// turn.
type recipe struct {
	name            string
	tables, mapping string
	attach          []string
	steps           []recipeStep
}

// recipeStep is one transaction, and the events of it: a line each, with the
// subject of the token, the event's name and its data.
type recipeStep struct {
	statements string
	told       []string
}

// recipes reads a page. A section without a line of gateway attach is none.
func recipes(t *testing.T, page string) []recipe {
	t.Helper()
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	var all []recipe
	var r recipe
	var block, kind string
	put := func() {
		switch {
		case kind == "sh" && strings.HasPrefix(block, "gateway attach"):
			r.attach = strings.Split(strings.TrimSpace(block), "\n")
		case kind == "sql" && r.tables == "":
			r.tables = block
		case kind == "sql" && r.mapping == "":
			r.mapping = block
		case kind == "sql":
			r.steps = append(r.steps, recipeStep{statements: block})
		case kind == "text" && len(r.steps) > 0:
			r.steps[len(r.steps)-1].told = strings.Split(strings.TrimSpace(block), "\n")
		}
		block, kind = "", ""
	}
	done := func() {
		if r.attach != nil {
			all = append(all, r)
		}
	}
	open := false
	for line := range strings.Lines(string(text)) {
		switch {
		case strings.HasPrefix(line, "```") && open:
			put()
			open = false
		case strings.HasPrefix(line, "```"):
			open, kind = true, strings.TrimSpace(line[3:])
		case open:
			block += line
		case strings.HasPrefix(line, "#"):
			done()
			r = recipe{name: strings.TrimLeft(strings.TrimSpace(line), "# ")}
		}
	}
	done()
	return all
}

// shellWords splits a line as a shell does, as far as the pages need it.
func shellWords(line string) []string {
	var words []string
	var word strings.Builder
	var quote rune
	some := false
	for _, c := range line {
		switch {
		case quote != 0 && c == quote:
			quote = 0
		case quote == 0 && (c == '\'' || c == '"'):
			quote, some = c, true
		case quote == 0 && c == ' ':
			if some {
				words = append(words, word.String())
			}
			word.Reset()
			some = false
		default:
			word.WriteRune(c)
			some = true
		}
	}
	if some {
		words = append(words, word.String())
	}
	return words
}

// What the pages show was written once, and then the product went on: an adopter
// who copied it got an error, or rows that nobody was told of.
func TestRecipesOfThePages(t *testing.T) {
	for page, least := range map[string]int{"../../sql/README.md": 10, "testdata/applications.md": 10} {
		all := recipes(t, page)
		if len(all) < least {
			t.Errorf("%s has %d recipes, want at least %d", page, len(all), least)
		}
		for _, r := range all {
			t.Run(r.name, func(t *testing.T) { r.run(t) })
		}
	}
}

func (r recipe) run(t *testing.T) {
	url := storetest.Database(t)
	environment(t, url)
	t.Setenv("GATEWAY_RECIPIENT", "auto")
	db := open(t, url)
	if err := db.Exec(t.Context(), r.tables); err != nil {
		t.Fatal(err)
	}
	mapping := filepath.Join(t.TempDir(), "mapping.sql")
	if err := os.WriteFile(mapping, []byte(r.mapping), 0o600); err != nil {
		t.Fatal(err)
	}
	command(t, "migrate", "--mapping", mapping)
	for _, line := range r.attach {
		command(t, shellWords(strings.TrimPrefix(line, "gateway "))...)
	}
	gateway := serveInTest(t)
	gateway.readyz(t, 200)
	streams := map[string]<-chan string{} // by the token's subject
	for _, step := range r.steps {
		for _, line := range step.told {
			subject, _, _ := strings.Cut(line, " ")
			if streams[subject] == nil {
				streams[subject] = gateway.told(t, subject)
			}
		}
	}
	for _, step := range r.steps {
		if err := db.Exec(t.Context(), step.statements); err != nil {
			t.Fatalf("%s: %v", step.statements, err)
		}
		for subject, events := range streams {
			want := slices.Clone(step.told)
			want = slices.DeleteFunc(want, func(line string) bool { return !strings.HasPrefix(line, subject+" ") })
			var got []string
			for range want {
				if line, open := <-events; open {
					got = append(got, subject+" "+line)
				}
			}
			if !slices.Equal(got, want) {
				t.Fatalf("%s\ntells\n%s\nwant\n%s", step.statements, strings.Join(got, "\n"), strings.Join(want, "\n"))
			}
		}
	}
	if out := command(t, "check"); strings.Contains(out, "✘") {
		t.Errorf("check says %s", out)
	}
	r.end(t, db, streams)
}

// end ends all streams, and looks whether anything came that is not on the page.
func (r recipe) end(t *testing.T, db *throwaway.DB, streams map[string]<-chan string) {
	t.Helper()
	if err := db.Exec(t.Context(), "SELECT notification_gateway.disconnect('*', '')"); err != nil {
		t.Fatal(err)
	}
	for subject, events := range streams {
		for line := range events {
			t.Errorf("%s was told %s, which the page does not say", subject, line)
		}
	}
}

// command runs the gateway's command, which must succeed, and returns its output.
func command(t *testing.T, arguments ...string) string {
	t.Helper()
	var out, stderr bytes.Buffer
	if status := run(t.Context(), arguments, &out, &stderr); status != 0 {
		t.Fatalf("gateway %q: %d %s%s", arguments, status, &out, &stderr)
	}
	return out.String()
}

// told opens a stream that asks for changes, and returns what it tells: the event
// and its data. The channel closes when the stream ends.
func (i *instance) told(t *testing.T, subject string) <-chan string {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, i.public+"/api/notifications/stream/?changes=true", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+mint(t, subject))
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("the stream of %s is answered with %d", subject, resp.StatusCode)
	}
	late := time.AfterFunc(30*time.Second, func() { resp.Body.Close() })
	t.Cleanup(func() { late.Stop(); resp.Body.Close() })
	events := make(chan string, 1000) // more than a page shows
	connected := make(chan struct{})
	go func() {
		defer close(events)
		lines := bufio.NewScanner(resp.Body)
		lines.Buffer(nil, 1<<20)
		event := ""
		for lines.Scan() {
			name, value, _ := strings.Cut(lines.Text(), ": ")
			switch {
			case name == "event":
				event = value
			case name == "data" && event == "connected":
				close(connected)
			case name == "data" && event != "ping" && event != "error":
				events <- fmt.Sprintf("%s %s", event, cmp.Or(value, "without data"))
			}
		}
	}()
	select {
	case <-connected:
	case <-time.After(30 * time.Second):
		t.Fatal("the stream does not say connected")
	}
	return events
}
