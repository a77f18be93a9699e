package swarm

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
)

const (
	maxHead = 64 << 10 // bytes of a response's head, and of a line that is kept
	crlf    = "\r\n"
)

// Kind is what an event is counted as.
type Kind uint8

const (
	Other Kind = iota
	Notification
	Ping
	Connected
	Reset
	Error
	kinds
)

// Tally is how many events of each Kind were read.
type Tally [kinds]int64

// scanner counts the events in the bytes of one HTTP/1.1 response, wherever
// they are cut. It looks only at what it counts: data is skipped unread, except
// an error's. Lines end with LF or CRLF; a lone CR, which the standard also allows, is no end.
type scanner struct {
	counted string // the event type that is a notification

	status  int    // of the response; 0 until its head is complete
	frame   []byte // the head, or a chunk's size, so far
	events  bool   // it says that it is an event stream
	chunked bool
	left    int  // bytes of the chunk and of its CRLF
	ended   bool // the last chunk came

	line    []byte // the line so far, unless it is data
	inData  bool   // the line is data
	hasData bool   // the event has data
	kind    Kind   // of the event
	id      []byte // last event ID
	code    string // of the last error event
}

// feed reads the next bytes of the response.
func (s *scanner) feed(b []byte, t *Tally) (err error) {
	if s.status == 0 {
		if b, err = s.head(b); err != nil || s.status == 0 {
			return err
		}
	}
	if !s.chunked {
		return s.body(b, t)
	}
	for len(b) > 0 {
		if s.left == 0 {
			if b, err = s.chunkSize(b); err != nil {
				return err
			}
			continue
		}
		n := min(len(b), s.left)
		if data := min(n, s.left-len(crlf)); data > 0 {
			if err := s.body(b[:data], t); err != nil {
				return err
			}
		}
		s.left -= n
		b = b[n:]
	}
	return nil
}

// head reads the status line and the header (RFC 9112, section 2.1) and returns
// what follows it.
func (s *scanner) head(b []byte) (rest []byte, err error) {
	before := len(s.frame)
	s.frame = append(s.frame, b...)
	end := bytes.Index(s.frame, []byte(crlf+crlf))
	if end < 0 {
		if len(s.frame) > maxHead {
			return nil, fmt.Errorf("a head of more than %d bytes", maxHead)
		}
		return nil, nil
	}
	lines := bytes.Split(s.frame[:end], []byte(crlf))
	words := bytes.Fields(lines[0])
	if len(words) < 2 || !bytes.HasPrefix(words[0], []byte("HTTP/1.")) {
		return nil, fmt.Errorf("%.40q is no HTTP/1 status line", lines[0])
	}
	status, err := strconv.Atoi(string(words[1]))
	if err != nil || status < 100 {
		return nil, fmt.Errorf("%.40q is no HTTP/1 status line", lines[0])
	}
	for _, line := range lines[1:] {
		name, value, _ := bytes.Cut(line, []byte(":"))
		switch value = bytes.TrimSpace(value); strings.ToLower(string(name)) {
		case "transfer-encoding":
			s.chunked = bytes.EqualFold(value, []byte("chunked"))
		case "content-type":
			s.events = bytes.HasPrefix(bytes.ToLower(value), []byte("text/event-stream"))
		}
	}
	s.status, s.frame = status, nil
	return b[end+len(crlf+crlf)-before:], nil
}

// chunkSize reads a chunk's first line (RFC 9112, section 7.1) and returns what
// follows it.
func (s *scanner) chunkSize(b []byte) (rest []byte, err error) {
	end := bytes.IndexByte(b, '\n')
	if end < 0 {
		if s.frame = append(s.frame, b...); len(s.frame) > maxHead {
			return nil, fmt.Errorf("a chunk's first line of more than %d bytes", maxHead)
		}
		return nil, nil
	}
	line := b[:end]
	if len(s.frame) > 0 {
		s.frame = append(s.frame, line...)
		line, s.frame = s.frame, s.frame[:0]
	}
	size, _, _ := bytes.Cut(line, []byte(";"))
	n, err := strconv.ParseUint(string(bytes.TrimSpace(size)), 16, 31)
	if err != nil {
		return nil, fmt.Errorf("%.40q is no chunk size", size)
	}
	s.left, s.ended = int(n)+len(crlf), n == 0
	return b[end+1:], nil
}

// body reads bytes of the event stream.
func (s *scanner) body(b []byte, t *Tally) error {
	for len(b) > 0 {
		end := bytes.IndexByte(b, '\n')
		part := b
		if end >= 0 {
			part = b[:end]
		}
		if !s.inData && len(s.line) == 0 && len(part) > 0 && part[0] == 'd' && s.kind != Error {
			s.inData = true // no other field begins so
		}
		switch {
		case end < 0:
			if !s.inData {
				s.line = append(s.line, part...)
			}
			if len(s.line) > maxHead {
				return fmt.Errorf("a line of more than %d bytes", maxHead)
			}
			return nil
		case s.inData:
			s.inData, s.hasData = false, true
		case len(s.line) > 0:
			s.line = append(s.line, part...)
			s.field(s.line, t)
			s.line = s.line[:0]
		default:
			s.field(part, t)
		}
		b = b[end+1:]
	}
	return nil
}

// field interprets a line that is not data (WHATWG HTML, section 9.2.6,
// "Interpreting an event stream").
func (s *scanner) field(line []byte, t *Tally) {
	line = bytes.TrimSuffix(line, []byte("\r"))
	if len(line) == 0 {
		if s.hasData {
			t[s.kindOf()]++
		}
		s.hasData, s.kind = false, Other
		return
	}
	name, value, _ := bytes.Cut(line, []byte(":"))
	value = bytes.TrimPrefix(value, []byte(" "))
	switch string(name) {
	case "event":
		s.kind = s.named(value)
	case "id":
		s.id = append(s.id[:0], value...)
	case "data": // an error's
		s.hasData = true
		var failure struct{ Code string }
		_ = json.Unmarshal(value, &failure) // another server's may be any text
		s.code = cmp.Or(failure.Code, fmt.Sprintf("%.100q", value))
	}
}

// why adds to the reason for a stream's end the code of the error event before it.
func (s *scanner) why(reason string) string {
	if s.code == "" {
		return reason
	}
	return reason + " with the error event " + s.code
}

func (s *scanner) named(name []byte) Kind {
	switch string(name) {
	case s.counted:
		return Notification
	case "ping":
		return Ping
	case "connected":
		return Connected
	case "reset":
		return Reset
	case "error":
		return Error
	}
	return Other
}

// kindOf is the Kind of the event that ends; one without a name is a message.
func (s *scanner) kindOf() Kind {
	if s.kind == Other && s.counted == "message" {
		return Notification
	}
	return s.kind
}
