package losscheck

import (
	"errors"
	"io"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

func readAll(s *eventStream) (all []event, err error) {
	for {
		e, err := s.next()
		if err != nil {
			return all, err
		}
		all = append(all, e)
	}
}

// The examples of WHATWG HTML, section 9.2.6, and what they leave out.
func TestEventStream(t *testing.T) {
	for name, c := range map[string]struct {
		text  string
		want  []event
		id    string
		retry time.Duration
	}{
		"lines of data":      {"data: YHOO\ndata: +2\ndata: 10\n\n", []event{{"message", "YHOO\n+2\n10", ""}}, "", 0},
		"id kept and reset":  {": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n\n", []event{{"message", "first event", "1"}, {"message", "second event", ""}, {"message", " third event", ""}}, "", 0},
		"no data, one empty": {"data\n\ndata\ndata\n\ndata:", []event{{"message", "", ""}, {"message", "\n", ""}}, "", 0},
		"space or none":      {"data:test\n\ndata: test\n\n", []event{{"message", "test", ""}, {"message", "test", ""}}, "", 0},
		"CR LF":              {"id: 7\r\nevent: x\r\ndata: a\r\ndata: b\r\n\r\n", []event{{"x", "a\nb", "7"}}, "7", 0},
		"CR":                 {"id: 7\revent: x\rdata: a\r\r", []event{{"x", "a", "7"}}, "7", 0},
		"byte order mark":    {"\ufeffdata: a\n\n", []event{{"message", "a", ""}}, "", 0},
		"event without data": {"event: x\nid: 3\n\ndata: a\n\n", []event{{"message", "a", "3"}}, "3", 0},
		"cut off":            {"id: 1\ndata: a\n\nid: 2\ndata: b\n", []event{{"message", "a", "1"}}, "1", 0},
		"id with NUL":        {"id: 1\n\nid: 2\x00\ndata: a\n\n", []event{{"message", "a", "1"}}, "1", 0},
		"retry":              {"retry: 3000\nretry: 1e3\nretry: -1\nretry: +1\nretry:\n", nil, "", 3 * time.Second},
		"unknown field":      {"Data: a\n data: b\ndatum: c\n\n", nil, "", 0},
	} {
		t.Run(name, func(t *testing.T) {
			s := newEventStream(iotest.OneByteReader(strings.NewReader(c.text)))
			got, err := readAll(s)
			if !errors.Is(err, io.EOF) || !reflect.DeepEqual(got, c.want) || s.lastEventID != c.id || s.retry != c.retry {
				t.Errorf("%q, id %q, retry %v, %v", got, s.lastEventID, s.retry, err)
			}
		})
	}
}

// An endless line must not fill the memory.
func TestEventStreamIsBounded(t *testing.T) {
	for _, text := range []string{strings.Repeat("x", maxLine+1), strings.Repeat("data: "+strings.Repeat("x", 1000)+"\n", maxLine/1000+1)} {
		if _, err := readAll(newEventStream(strings.NewReader(text))); !errors.Is(err, errTooLong) {
			t.Errorf("%v", err)
		}
	}
}

// An event must be dispatched by its blank line, not by what comes after it.
func TestEventStreamDoesNotWait(t *testing.T) {
	for _, end := range []string{"\n\n", "\r\r", "\r\n\r"} {
		in, out := io.Pipe()
		go io.WriteString(out, "data: a"+end)
		if e, err := newEventStream(in).next(); err != nil || e.data != "a" {
			t.Errorf("%q: %q, %v", end, e, err)
		}
		in.Close()
	}
}

// FuzzEventStream compares with the specification's steps, taken over a whole
// text.
func FuzzEventStream(f *testing.F) {
	for _, text := range []string{"data: a\n\n", "\ufeffid: 1\r\nevent: x\rdata\n\n", "retry: 10\n: c\nid:\x00\n\n", "data:\r\n\rdata: \n\n\n"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s := newEventStream(strings.NewReader(text))
		got, err := readAll(s)
		if !errors.Is(err, io.EOF) {
			return // it is longer than the reader takes
		}
		want, id := specified(text)
		if !reflect.DeepEqual(got, want) || s.lastEventID != id {
			t.Errorf("%q: got %q %q, want %q %q", text, got, s.lastEventID, want, id)
		}
	})
}

func specified(text string) (all []event, lastEventID string) {
	text = strings.TrimPrefix(text, "\ufeff")
	text = strings.ReplaceAll(strings.ReplaceAll(text, "\r\n", "\n"), "\r", "\n")
	lines := strings.Split(text, "\n")
	var data, kind, id string
	for _, line := range lines[:len(lines)-1] { // the rest is not a complete line
		switch {
		case line == "":
			lastEventID = id
			if data != "" {
				e := event{"message", strings.TrimSuffix(data, "\n"), id}
				if kind != "" {
					e.name = kind
				}
				all = append(all, e)
			}
			data, kind = "", ""
		case strings.HasPrefix(line, ":"):
		default:
			field, value := line, ""
			if i := strings.IndexByte(line, ':'); i >= 0 {
				field, value = line[:i], strings.TrimPrefix(line[i+1:], " ")
			}
			switch field {
			case "event":
				kind = value
			case "data":
				data += value + "\n"
			case "id":
				if strings.IndexByte(value, 0) < 0 {
					id = value
				}
			}
		}
	}
	return all, lastEventID
}
