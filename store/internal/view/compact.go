package view

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
)

const maxNotification = 4 << 20 // bytes of JSON; past it the recipient gets a reset instead

// AppendCompact appends what the view gave as data as one line of JSON. known says
// that Postgres has checked it: a column of type json or jsonb holds JSON, text
// may hold anything.
func AppendCompact(out, text []byte, known bool) ([]byte, error) {
	switch {
	case text == nil:
		return nil, errors.New("data is null")
	case len(text) > maxNotification:
		return nil, fmt.Errorf("data has %d bytes, more than %d", len(text), maxNotification)
	case !known && !json.Valid(text):
		return nil, errors.New("data is no JSON")
	}
	start := len(out)
	out = compact(slices.Grow(out, len(text)), text)
	if len(out) == start || out[start] != '{' {
		return nil, errors.New("data is no JSON object")
	}
	return out, nil
}

// compact appends valid JSON without the white space between its tokens (RFC
// 8259 section 2). Every notification passes here, so it does not check again
// what has been checked: json.Compact takes five times as long.
func compact(out, text []byte) []byte {
	for i := 0; i < len(text); {
		switch c := text[i]; c {
		case ' ', '\t', '\r', '\n':
			i++
		case '"':
			n := 1 + endOfString(text[i+1:])
			out = append(out, text[i:i+n]...)
			i += n
		default:
			out = append(out, c)
			i++
		}
	}
	return out
}

// endOfString returns how many bytes the rest of a string has, with its
// closing quotation mark.
func endOfString(text []byte) int {
	for n := 0; ; {
		i := bytes.IndexByte(text[n:], '"')
		if i < 0 {
			return len(text)
		}
		escapes := 0
		for k := n + i - 1; k >= n && text[k] == '\\'; k-- {
			escapes++
		}
		if n += i + 1; escapes%2 == 0 {
			return n
		}
	}
}
