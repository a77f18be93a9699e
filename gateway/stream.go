package gateway

import "github.com/seed-64e334f9/notification-gateway/store"

// stream is one open event stream. It needs no goroutine of its own: the hub
// hands events over, the transport writes them. An idle stream must stay small,
// because there are a hundred thousand of them.
type stream struct {
	recipient store.Recipient
	groups    []string        // further keys that it stands under, without doubles and without its recipient's; nil mostly
	types     map[string]bool // notification types that its client wants; nil is all
	changes   bool            // its client wants to know what becomes of notifications
	counts    bool            // its client wants to know how many are unread
	login     *login          // what the CRM is asked with again; nil when it came with a token
	out       transport

	// guarded by hub.mu
	expires      int64         // the Unix second from which its token is refused; zero never
	session      sessionID     // of the cookie that it was opened with, or of the one that replaced it
	ahead        *store.Cursor // what its client had seen when it came, while the position of the hub has not reached that; nil mostly
	lastSent     *position     // the position in the last id that was sent; shared between streams
	bucket       int32         // its bucket in the ping wheel
	slot         int32         // its index in that bucket
	due          int32         // its index among the streams that expire
	lastDelivery int32         // index of the last row that it gets of a batch, while one is delivered
	state        streamState
	missedBatch  bool // while it catches up: a batch came for one of its keys
	counted      bool // its client has been told how many notifications are unread
}

// streamState is what a stream does with the batches that come. Only
// hub.setStateLocked changes it.
//
//	            nothing to replay
//	  new ──────────────────────────▶ live ◀─────────────────────────┐
//	   │                               │ a row did not fit into its   │ caught up, and no
//	   │ a last event ID, or           │ buffer, or was not loaded    │ batch was missed
//	   │ replay=unread                 ▼ in time                      │
//	   └─────────────────────────▶ catching up ──────────────────────┘
//
//	live, catching up ──▶ closed: for one of the reasons of endings
//
// Invariants. A stream stands in the registry, in the ping wheel and among those
// that expire exactly while it is live or catching up. hub.catchingUp counts the
// streams that catch up, hub.open those that are live or catching up, and
// hub.filtering and hub.changing those of the latter whose clients want some types
// only, or changes. A closed
// stream stays closed.
type streamState uint8

const (
	// streamNew: the hub does not know the stream yet.
	streamNew streamState = iota
	// streamCatchingUp: a replay sends what its client has missed. A batch only
	// sets missedBatch, and the replay goes on up to the position after it.
	streamCatchingUp
	// streamLive: it is handed each batch as it comes.
	streamLive
	// streamClosed: its last event was handed over, or its connection is gone.
	// Nothing more is sent to it.
	streamClosed
)

// setStateLocked is the only place where a stream's state changes, and where the
// streams are counted.
func (h *hub) setStateLocked(s *stream, to streamState) {
	from := s.state
	s.state, s.missedBatch = to, false
	if from == streamCatchingUp {
		h.catchingUp--
	}
	if to == streamCatchingUp {
		h.catchingUp++
	}
	filters, changes := 0, 0
	if s.types != nil {
		filters = 1
	}
	if s.changes {
		changes = 1
	}
	switch {
	case from == streamNew:
		h.open++
		h.filtering += filters
		h.changing += changes
		h.counts.addLocked(s)
		h.churn++
		h.metrics.streams.Inc()
		h.metrics.opened.Inc()
	case to == streamClosed:
		h.open--
		h.filtering -= filters
		h.changing -= changes
		h.counts.removeLocked(s)
		h.churn++
		h.metrics.streams.Dec()
		if h.draining && h.open == 0 {
			close(h.empty)
		}
	}
}

// rowType is the notification type of a row, as far as it is known.
type rowType struct {
	name  string
	known bool
}

// typeOf reads the type of a row. It parses the row, so it is called once for
// each row and never with hub.mu held.
func typeOf(n store.Notification) rowType {
	if n.Data == nil {
		return rowType{}
	}
	name, known := n.Type()
	return rowType{name, known}
}

// wants reports whether the client asked for a row: for changes, if it is one, and
// for its type. A row that was removed has no type, and always matches; so does
// one whose type is not known, because it could not be loaded and the client gets
// a reset for it, or because its type cannot be read.
func (s *stream) wants(change store.Change, t rowType) bool {
	switch change {
	case "":
	case store.ChangeUpdated:
		if !s.changes {
			return false
		}
	default:
		return s.changes
	}
	return s.types == nil || !t.known || s.types[t.name]
}

// reader says what a replay brings to the stream.
func (s *stream) reader() store.Reader {
	keys := append(append(make([]string, 0, 2+len(s.groups)), s.recipient.UserKey), s.groups...)
	return store.Reader{Keys: append(keys, everybodyKey), Changes: s.changes}
}

// ending is how a stream ends: what the client is told and what the metric says.
type ending struct {
	code    string
	message string
}

// The reasons of streams_closed_total. Most are codes of the error event too.
const (
	endClient    = "client" // the client closed, or its connection broke
	endExpired   = "token_expired"
	endRevoked   = "revoked"
	endSignedOut = "signed_out"
	endSlow      = "slow_consumer"
	endReplaced  = "replaced"
	endRegrouped = "groups_changed" // the code of its error event is unavailable, because the client is to come again
	endDraining  = "draining"
	endInternal  = "internal"
)

func endings() []string {
	return []string{endClient, endExpired, endRevoked, endSignedOut, endSlow, endReplaced, endRegrouped, endDraining, endInternal}
}

// endingOf returns what a client is told for a code.
func endingOf(code string) ending {
	if code == endRegrouped {
		return ending{"unavailable", "the groups of this user have changed: connect again with the last event ID"}
	}
	return ending{code, map[string]string{
		endExpired:   "the token has expired: connect again with a new one",
		endRevoked:   "this user's streams were ended",
		endSignedOut: "the session was ended",
		endSlow:      "too much was waiting to be read: connect again with the last event ID",
		endReplaced:  "a newer stream of this user took this one's place",
		endDraining:  "the server is restarting: connect again with the last event ID",
		endInternal:  "something went wrong: connect again with the last event ID",
	}[code]}
}
