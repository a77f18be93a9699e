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
	eventUnread       = "unread"
	eventPing         = "ping"
	eventReset        = "reset"
	eventError        = "error"
)

// event is one event of the stream, encoded once: all streams that get it share
// its bytes, so nothing may modify them.
type event struct {
	name     string
	chunk    []byte    // the event as one chunk of HTTP/1.1 (RFC 9112 section 7.1): size CRLF event CRLF
	captured time.Time // when the row was captured; zero where no delay is measured
	shared   bool      // the bytes are in the batch's buffer and are written over after Send has returned; retain makes a copy
	copied   *event    // what retain returned; guarded by hub.sending
}

// plain returns the event without the framing of its chunk, for HTTP/1.0 and for
// net/http, which frames what is written to it.
func (e *event) plain() []byte {
	return e.chunk[bytes.IndexByte(e.chunk, '\n')+1 : len(e.chunk)-len(crlf)]
}

// retain returns an event that may be held after Send has returned: e itself, or
// a copy, which is made once for all streams.
func (e *event) retain() *event {
	switch {
	case !e.shared:
		return e
	case e.copied == nil:
		e.copied = &event{name: e.name, chunk: bytes.Clone(e.chunk), captured: e.captured}
	}
	return e.copied
}

// encode makes an event. data must be one line; id empty leaves the field out;
// retry is the reconnection time, zero leaves it out.
func encode(id, name string, retry time.Duration, data []byte) *event {
	return &event{name: name, chunk: appendEvent(make([]byte, 0, len(id)+len(name)+len(data)+64), id, name, retry, data)}
}

const (
	crlf      = "\r\n"
	lastChunk = "0" + crlf + crlf // ends a chunked body
)

// appendEvent appends the fields of one event (WHATWG HTML, section 9.2.5,
// "Parsing an event stream") as one chunk.
func appendEvent(b []byte, id, name string, retry time.Duration, data []byte) []byte {
	var digits [20]byte
	reconnect := digits[:0]
	size := len("event: \n") + len(name) + len("data: \n\n") + len(data)
	if id != "" {
		size += len("id: \n") + len(id)
	}
	if retry > 0 {
		reconnect = strconv.AppendInt(reconnect, retry.Milliseconds(), 10)
		size += len("retry: \n") + len(reconnect)
	}
	b = append(strconv.AppendInt(b, int64(size), 16), crlf...)
	if id != "" {
		b = append(append(append(b, "id: "...), id...), '\n')
	}
	b = append(append(append(b, "event: "...), name...), '\n')
	if retry > 0 {
		b = append(append(append(b, "retry: "...), reconnect...), '\n')
	}
	return append(append(append(b, "data: "...), data...), "\n\n"+crlf...)
}

func connectedEvent(id string, r store.Recipient, retry time.Duration) *event {
	user := []byte(r.UserKey)
	if !r.Numeric {
		user = quoted(r.UserKey)
	}
	data := append([]byte(`{"message":"Connected to notification stream","user":`), user...)
	return encode(id, eventConnected, retry, append(data, '}'))
}

// eventName is the event type of a row: that of a change is the change.
func eventName(change store.Change) string {
	if change == "" {
		return eventNotification
	}
	return string(change)
}

// notificationEvent is the row itself, or a reset where the row could not be
// read.
func notificationEvent(id string, n store.Notification) *event {
	if n.Err != nil {
		return resetEvent(id, resetUnreadable)
	}
	e := encode(id, eventName(n.Change), 0, n.Data)
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
