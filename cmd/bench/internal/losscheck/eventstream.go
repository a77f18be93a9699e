package losscheck

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"strconv"
	"strings"
	"time"
)

// maxLine is the most bytes of one line, and of one event's data. The gateway
// sends notifications of up to 4 MiB.
const maxLine = 8 << 20

var errTooLong = errors.New("a line or an event's data is longer than 8 MiB, which is more than this reader takes")

// event is one event of a stream, dispatched.
type event struct {
	name string // event type, "message" when the stream names none
	data string
	id   string // last event ID as of this event
}

// eventStream reads an event stream as a browser does, written from WHATWG
// HTML, section 9.2.6, "Interpreting an event stream".
type eventStream struct {
	lastEventID string        // of the last event that was complete; these two may be set before the first read
	retry       time.Duration // reconnection time, zero until the stream sets one

	in      *bufio.Reader
	started bool // the first line, which may have a byte order mark, was read
	wasCR   bool // the last line ended in CR: a LF that follows belongs to it
}

func newEventStream(r io.Reader) *eventStream {
	return &eventStream{in: bufio.NewReader(r)}
}

// next returns the next event. What the stream's end cuts off is no event, and
// its id does not count.
func (s *eventStream) next() (event, error) {
	var name string
	var data []byte
	id := s.lastEventID
	for {
		line, err := s.line()
		if err != nil {
			return event{}, err
		}
		if len(line) == 0 {
			s.lastEventID = id
			if len(data) == 0 {
				name = ""
				continue
			}
			if name == "" {
				name = "message"
			}
			return event{name, string(bytes.TrimSuffix(data, []byte("\n"))), id}, nil
		}
		field, value, _ := strings.Cut(string(line), ":") // a comment is a field without a name
		value = strings.TrimPrefix(value, " ")
		switch field {
		case "event":
			name = value
		case "data":
			data = append(append(data, value...), '\n')
			if len(data) > maxLine {
				return event{}, errTooLong
			}
		case "id":
			if !strings.Contains(value, "\x00") {
				id = value
			}
		case "retry":
			if n, err := strconv.ParseUint(value, 10, 31); err == nil && value[0] != '+' {
				s.retry = time.Duration(n) * time.Millisecond
			}
		}
	}
}

// line returns the next line without its end, which is CR LF, LF or CR. It
// does not wait for what may follow a CR.
func (s *eventStream) line() ([]byte, error) {
	var line []byte
	for {
		b, err := s.in.ReadByte()
		if err != nil {
			return nil, err
		}
		wasCR := s.wasCR
		s.wasCR = b == '\r'
		switch {
		case b == '\n' && wasCR:
			continue
		case b == '\n' || b == '\r':
			if !s.started {
				s.started = true
				line = bytes.TrimPrefix(line, []byte("\ufeff"))
			}
			return line, nil
		case len(line) == maxLine:
			return nil, errTooLong
		}
		line = append(line, b)
	}
}
