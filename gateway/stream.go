package gateway

import "github.com/seed-64e334f9/notification-gateway/store"

// stream is one open event stream. It needs no goroutine of its own: the hub
// pushes events, the transport sends them.
type stream struct {
	recipient store.Recipient
	types     map[string]bool // notification types that are wanted; nil is all
	expires   int64           // when the token does, in Unix seconds; zero never
	out       transport

	// guarded by hub.mu
	live   bool          // gets batches as they come; else a replay is under way
	dirty  bool          // a batch for this user came during the replay
	gone   bool          // left the hub
	told   *store.Cursor // the position in the last id that was sent; shared
	bucket int32         // place in the ping wheel
	slot   int32         // index in that bucket
	due    int32         // index among the streams that expire
}

// wants reports whether the client asked for a row of this type. It is told of
// a row that cannot be read in any case, and gets one whose type cannot be.
func (s *stream) wants(n store.Notification) bool {
	if s.types == nil || n.Err != nil {
		return true
	}
	kind, ok := n.Type()
	return !ok || s.types[kind]
}

// ending is how a stream ends: what the client is told and what the metric says.
type ending struct {
	code    string
	message string
}

// The reasons of streams_closed_total. All but client are codes of the error event.
const (
	endClient   = "client" // the client closed, or its connection broke
	endExpired  = "token_expired"
	endRevoked  = "revoked"
	endSlow     = "slow_consumer"
	endReplaced = "replaced"
	endDraining = "draining"
	endInternal = "internal"
)

func endings() []string {
	return []string{endClient, endExpired, endRevoked, endSlow, endReplaced, endDraining, endInternal}
}

// endingOf returns what a client is told for a code.
func endingOf(code string) ending {
	return ending{code, map[string]string{
		endExpired:  "the token has expired: connect again with a new one",
		endRevoked:  "this user's streams were ended",
		endSlow:     "too much was waiting to be read: connect again with the last event ID",
		endReplaced: "a newer stream of this user took this one's place",
		endDraining: "the server is restarting: connect again with the last event ID",
		endInternal: "something went wrong: connect again with the last event ID",
	}[code]}
}
