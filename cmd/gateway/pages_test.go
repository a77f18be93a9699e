package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"unicode"
)

// repository is its root, from where tests of this package run.
const repository = "../.."

// page is a Markdown file, by its path from the root.
type page struct {
	name   string
	lines  []string // without those of code blocks
	blocks []codeBlock
}

// codeBlock is a fenced block, with the line before it.
type codeBlock struct {
	line             int
	language, before string
}

// fencedIn returns the language of a line that begins or ends a block.
func fencedIn(line string) (language string, ok bool) {
	return strings.CutPrefix(strings.TrimSpace(line), "```")
}

// readPages reads every page of the repository.
func readPages(t *testing.T) (pages []page) {
	t.Helper()
	walk(t, func(name string) {
		if !strings.HasSuffix(name, ".md") {
			return
		}
		text, err := os.ReadFile(filepath.Join(repository, name))
		if err != nil {
			t.Fatal(err)
		}
		p, inside, before := page{name: name}, false, ""
		for i, line := range strings.Split(string(text), "\n") {
			if language, ok := fencedIn(line); ok {
				if inside = !inside; inside {
					p.blocks = append(p.blocks, codeBlock{i + 1, language, before})
				}
			} else if !inside {
				p.lines = append(p.lines, line)
			}
			if text := strings.TrimSpace(line); text != "" {
				before = text
			}
		}
		pages = append(pages, p)
	})
	if len(pages) < 5 {
		t.Fatalf("found only %d pages", len(pages))
	}
	return pages
}

// walk calls f for every file of the repository, by its path from the root. It
// leaves out what is built or installed, and the data of tests.
func walk(t *testing.T, f func(name string)) {
	t.Helper()
	err := filepath.WalkDir(repository, func(file string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(repository, file)
		if err != nil {
			return err
		}
		name = filepath.ToSlash(name)
		switch {
		case name == ".git" || name == "bin" || name == "dist" || entry.Name() == "node_modules" || entry.Name() == "testdata":
			if entry.IsDir() {
				return filepath.SkipDir
			}
		case !entry.IsDir():
			f(name)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

var (
	markdownLink = regexp.MustCompile(`\]\(([^()\s]+)\)`)
	htmlLink     = regexp.MustCompile(`(?:href|src)="([^"]+)"`)
	inlineCode   = regexp.MustCompile("`[^`]*`")
	linkText     = regexp.MustCompile(`!?\[([^\]]*)\]\([^)]*\)`)
)

// anchors are the names that GitHub gives the headings of a page.
func (p page) anchors() map[string]bool {
	names, seen := map[string]bool{}, map[string]int{}
	for _, line := range p.lines {
		level := len(line) - len(strings.TrimLeft(line, "#"))
		if level == 0 || level > 6 || !strings.HasPrefix(line[level:], " ") {
			continue
		}
		name := strings.Map(func(r rune) rune {
			switch {
			case r == ' ':
				return '-'
			case r == '-' || r == '_' || unicode.IsLetter(r) || unicode.IsDigit(r):
				return unicode.ToLower(r)
			}
			return -1
		}, strings.TrimSpace(linkText.ReplaceAllString(line[level:], "$1")))
		if n := seen[name]; n > 0 {
			names[name+"-"+strconv.Itoa(n)] = true
		} else {
			names[name] = true
		}
		seen[name]++
	}
	return names
}

// links are the targets of a page's links that are not addresses.
func (p page) links() (targets []string) {
	for _, line := range p.lines {
		line = inlineCode.ReplaceAllString(line, "")
		for _, m := range append(markdownLink.FindAllStringSubmatch(line, -1), htmlLink.FindAllStringSubmatch(line, -1)...) {
			if !strings.Contains(m[1], "://") && !strings.HasPrefix(m[1], "mailto:") {
				targets = append(targets, m[1])
			}
		}
	}
	return targets
}

// A link to a page that was moved, or to a heading that was renamed, leads a
// reader nowhere, and nobody but the reader notices.
func TestPagesHaveNoDeadLinks(t *testing.T) {
	t.Parallel()
	pages := readPages(t)
	anchors := map[string]map[string]bool{}
	for _, p := range pages {
		anchors[p.name] = p.anchors()
	}
	for _, p := range pages {
		for _, target := range p.links() {
			file, anchor, hasAnchor := strings.Cut(target, "#")
			name := p.name
			if file != "" {
				name = filepath.ToSlash(filepath.Join(filepath.Dir(p.name), file))
			}
			if _, err := os.Stat(filepath.Join(repository, name)); err != nil || strings.HasPrefix(name, "..") {
				t.Errorf("%s: the link %s leads to no file", p.name, target)
			} else if hasAnchor && !anchors[name][anchor] {
				t.Errorf("%s: the link %s leads to no heading", p.name, target)
			}
		}
	}
}

var (
	blockMark = regexp.MustCompile(`^<!-- (?:run by (\w+(?:, \w+)*)|excerpt) -->$`)
	pageMark  = regexp.MustCompile(`^<!-- code: (?:run by (\w+(?:, \w+)*)|excerpts) -->$`)
	testFunc  = regexp.MustCompile(`(?m)^func (Test\w+)\(`)
)

// A snippet that nothing runs goes wrong in silence. So a page names the test that
// runs its code, or says that it is an excerpt, which stands for a whole that is
// elsewhere: in the line before a block, or once for all blocks of the page. A
// block without a language is a drawing, or text.
func TestPagesSayWhatRunsTheirSnippets(t *testing.T) {
	t.Parallel()
	tests := map[string]bool{}
	walk(t, func(name string) {
		if !strings.HasSuffix(name, "_test.go") && !strings.HasPrefix(name, ".ci/") {
			return
		}
		text, err := os.ReadFile(filepath.Join(repository, name))
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range testFunc.FindAllStringSubmatch(string(text), -1) {
			tests[m[1]] = true
		}
	})
	for _, p := range readPages(t) {
		var all []string
		for _, line := range p.lines {
			if all == nil {
				all = pageMark.FindStringSubmatch(line)
			}
		}
		for _, b := range p.blocks {
			mark := blockMark.FindStringSubmatch(b.before)
			if mark == nil {
				mark = all
			}
			switch {
			case b.language == "" || b.language == "text":
				continue
			case mark == nil:
				t.Errorf("%s:%d: write <!-- run by TestName --> or <!-- excerpt --> before the block, or <!-- code: run by TestName --> below the title", p.name, b.line)
				continue
			}
			for name := range strings.SplitSeq(mark[1], ", ") {
				if name != "" && !tests[name] {
					t.Errorf("%s:%d: there is no test %s", p.name, b.line, name)
				}
			}
		}
	}
}

// README is what a stranger reads first, and people read no more than three screens.
func TestREADMEIsShort(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join(repository, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(text), "\n"); n > 150 {
		t.Errorf("README.md has %d lines, at most 150 are wanted", n)
	}
}

// make help is generated from what stands beside each target, so a target without
// a line would not be there.
func TestMakefileHelpListsEveryTarget(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join(repository, "Makefile"))
	if err != nil {
		t.Fatal(err)
	}
	targets := regexp.MustCompile(`(?m)^([a-z0-9-]+):(?:[^=].*)?$`).FindAllStringSubmatch(string(text), -1)
	if len(targets) < 10 {
		t.Fatalf("found %d targets", len(targets))
	}
	_, phony, _ := strings.Cut(string(text), ".PHONY:")
	phony, _, _ = strings.Cut(phony, "\n")
	for _, m := range targets {
		if !strings.Contains(m[0], " ## ") {
			t.Errorf("make help does not list %s", m[1])
		}
		if !strings.Contains(phony+" ", " "+m[1]+" ") {
			t.Errorf("%s is not .PHONY", m[1])
		}
	}
}

// The top level shows the architecture, so nothing else may gather there.
func TestTopLevelIsAsAgreed(t *testing.T) {
	t.Parallel()
	agreed := " cmd gateway store auth deploy sql go.mod go.sum Makefile README.md LICENSE .ci .github .git .gitignore .gitattributes .dockerignore bin dist "
	entries, err := os.ReadDir(repository)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !strings.Contains(agreed, " "+e.Name()+" ") {
			t.Errorf("%s stands at the top level", e.Name())
		}
	}
}
