package gateway

import (
	"bytes"
	"encoding/json"
	"strconv"
	"time"

	"github.com/seed-64e334f9/notification-gateway/store"
)

// The event types of the stream, and at the same time the values of the label
// of events_sent_total.
const (
	eventConnected    = "connected"
	eventNotification = "notification"
	eventPing         = "ping"
	eventReset        = "reset"
	eventError        = "error"
)

// event is one event of the stream, encoded: it goes out in one write and is
// shared by all streams that get it, so nobody modifies it.
type event struct {
	name     string
	bytes    []byte
	captured time.Time // when the row was captured; zero where no delay is measured
	lent     bool      // the bytes are good while Send runs; who needs them for longer calls keep
	kept     *event    // what keep returned; owned by who lent it
}

// keep returns e to hold: itself, or one copy for all who hold it.
func (e *event) keep() *event {
	switch {
	case !e.lent:
		return e
	case e.kept == nil:
		e.kept = &event{name: e.name, bytes: bytes.Clone(e.bytes), captured: e.captured}
	}
	return e.kept
}

// encode makes an event. data must be one line; id empty leaves the field out;
// retry is the reconnection time, zero leaves it out.
func encode(id, name string, retry time.Duration, data []byte) *event {
	return &event{name: name, bytes: appendEvent(make([]byte, 0, len(id)+len(name)+len(data)+48), id, name, retry, data)}
}

// appendEvent appends the fields of one event (WHATWG HTML, section 9.2.5,
// "Parsing an event stream").
func appendEvent(b []byte, id, name string, retry time.Duration, data []byte) []byte {
	if id != "" {
		b = append(append(append(b, "id: "...), id...), '\n')
	}
	b = append(append(append(b, "event: "...), name...), '\n')
	if retry > 0 {
		b = append(strconv.AppendInt(append(b, "retry: "...), retry.Milliseconds(), 10), '\n')
	}
	return append(append(append(b, "data: "...), data...), "\n\n"...)
}

// sheet is where the notifications of one batch are encoded. Most are written to
// all their streams at once, and then the next batch is written over them: a
// busy gateway leaves no garbage.
type sheet struct {
	events []event
	bytes  []byte
}

const sheetBytes = 1 << 20 // that are kept for the next batch

// notification is notificationEvent, lent.
func (s *sheet) notification(id string, n store.Notification) *event {
	if n.Err != nil {
		return notificationEvent(id, n)
	}
	start := len(s.bytes)
	s.bytes = appendEvent(s.bytes, id, eventNotification, 0, n.Data)
	s.events = append(s.events, event{
		name: eventNotification, bytes: s.bytes[start:len(s.bytes):len(s.bytes)], captured: n.InsertedAt, lent: true,
	})
	return &s.events[len(s.events)-1] // also after s.events has grown elsewhere
}

// wipe ends what was lent.
func (s *sheet) wipe() {
	clear(s.events)
	s.events, s.bytes = s.events[:0], s.bytes[:0]
	if cap(s.bytes) > sheetBytes {
		*s = sheet{}
	}
}

func connectedEvent(id string, r store.Recipient, retry time.Duration) *event {
	user := []byte(r.UserKey)
	if !r.Numeric {
		user = quoted(r.UserKey)
	}
	data := append([]byte(`{"message":"Connected to notification stream","user":`), user...)
	return encode(id, eventConnected, retry, append(data, '}'))
}

// notificationEvent is the row itself, or a reset where the row could not be
// read.
func notificationEvent(id string, n store.Notification) *event {
	if n.Err != nil {
		return resetEvent(id, "unreadable")
	}
	e := encode(id, eventNotification, 0, n.Data)
	e.captured = n.InsertedAt
	return e
}

func pingEvent(id string, now time.Time) *event {
	return encode(id, eventPing, 0, []byte(`{"timestamp":"`+now.UTC().Format(time.RFC3339)+`"}`))
}

func resetEvent(id, reason string) *event {
	return encode(id, eventReset, 0, []byte(`{"reason":`+string(quoted(reason))+`}`))
}

func errorEvent(code, message string, retry time.Duration) *event {
	return encode("", eventError, retry, []byte(`{"code":`+string(quoted(code))+`,"message":`+string(quoted(message))+`}`))
}

// quoted is text as a JSON string.
func quoted(text string) []byte {
	b, err := json.Marshal(text)
	if err != nil { // a string always marshals
		panic(err)
	}
	return b
}
