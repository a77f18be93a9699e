package report

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// table writes results in columns, with a mark beside each target.
func table(w io.Writer, title string, lines []Result) {
	rows := [][]string{{"", "measured", "floor", "target", ""}}
	for _, l := range lines {
		rows = append(rows, []string{l.What, l.Value, l.Floor, l.Target, mark(l.Met)})
	}
	widths := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, cell := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	fmt.Fprintf(w, "\n%s\n", title)
	for _, row := range rows {
		var line strings.Builder
		for i, cell := range row {
			line.WriteString("  " + cell + strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell)))
		}
		fmt.Fprintln(w, strings.TrimRight(line.String(), " "))
	}
}

func mark(met *bool) string {
	switch {
	case met == nil:
		return ""
	case *met:
		return "✔"
	}
	return "✘"
}
