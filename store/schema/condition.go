package schema

import "strings"

// condition is what --when says, as a trigger's WHEN
// (https://www.postgresql.org/docs/current/sql-createtrigger.html): of the new row
// and of the old one. Both are empty where every row is meant.
type condition struct{ now, before string }

// conditionOf makes both of the text over NEW. The line break ends a comment at
// the text's end.
func conditionOf(text string) condition {
	if text == "" {
		return condition{}
	}
	return condition{now: text + "\n", before: ofOld(text) + "\n"}
}

// stays holds where both do.
func (c condition) stays() string {
	if c.now == "" {
		return ""
	}
	return "(" + c.before + ") AND (" + c.now + ")"
}

// begins holds where the new row satisfies it and the old one did not; null is not
// true.
func (c condition) begins() string { return "(" + c.now + ") AND (" + c.before + ") IS NOT TRUE" }

// ceases is the reverse of begins.
func (c condition) ceases() string { return "(" + c.before + ") AND (" + c.now + ") IS NOT TRUE" }

// ofOld replaces NEW by OLD where it names the row, whole or with a column, not
// inside texts, names and comments and not as the name of a column or function (https://www.postgresql.org/docs/current/sql-syntax-lexical.html).
func ofOld(text string) string {
	var b strings.Builder
	for i, afterDot := 0, false; i < len(text); {
		end := i + token(text[i:])
		word := text[i:end]
		isRow := !afterDot && (strings.EqualFold(word, "new") || word == `"new"`)
		if isRow && !strings.HasPrefix(strings.TrimLeft(text[end:], " \t\r\n"), "(") {
			word = "OLD"
		}
		if strings.TrimSpace(word) != "" {
			afterDot = word == "."
		}
		b.WriteString(word)
		i = end
	}
	return b.String()
}

// token returns the length of the first token of an SQL text, which is not empty.
// What is not a text, a name or a comment is a token for each byte.
func token(text string) int {
	switch {
	case strings.HasPrefix(text, "--"):
		return until(text, 2, "\n")
	case strings.HasPrefix(text, "/*"):
		return blockComment(text)
	case text[0] == '\'':
		return quoted(text, 0, false)
	case text[0] == '"':
		return quoted(text, 0, false)
	case (text[0] == 'E' || text[0] == 'e') && strings.HasPrefix(text[1:], "'"):
		return quoted(text, 1, true)
	case text[0] == '$':
		if tag := dollarQuote(text); tag != "" {
			return until(text, len(tag), tag)
		}
		return 1
	case isWord(text[0]):
		n := 1
		for n < len(text) && (isWord(text[n]) || text[n] == '$') {
			n++
		}
		return n
	}
	return 1
}

// until returns where the mark after the first skip bytes ends.
func until(text string, skip int, mark string) int {
	n := strings.Index(text[skip:], mark)
	if n < 0 {
		return len(text)
	}
	return skip + n + len(mark)
}

// blockComment returns the length of a comment, which may hold others.
func blockComment(text string) int {
	depth := 0
	for n := 0; n < len(text)-1; n++ {
		switch text[n : n+2] {
		case "/*":
			depth++
			n++
		case "*/":
			depth--
			if n++; depth == 0 {
				return n + 1
			}
		}
	}
	return len(text)
}

// quoted returns where the text or name that begins at start ends. A doubled quote
// is a part of it, and so is one behind a backslash where those count.
func quoted(text string, start int, backslashes bool) int {
	quote := text[start]
	for n := start + 1; n < len(text); n++ {
		switch {
		case text[n] == '\\' && backslashes:
			n++
		case text[n] != quote:
		case n+1 < len(text) && text[n+1] == quote:
			n++
		default:
			return n + 1
		}
	}
	return len(text)
}

// dollarQuote returns the tag that a text between dollars begins with, or nothing.
func dollarQuote(text string) string {
	n := 1
	for n < len(text) && isWord(text[n]) {
		n++
	}
	if n < len(text) && text[n] == '$' && (n == 1 || text[1] < '0' || text[1] > '9') {
		return text[:n+1]
	}
	return ""
}

func isWord(c byte) bool {
	return c == '_' || c >= 0x80 || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}
