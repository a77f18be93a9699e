package gateway

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seed-64e334f9/notification-gateway/store"
)

// Sessions tells every replica what became of a session. *store.Store is one.
type Sessions interface {
	ChangeSession(ctx context.Context, session, userKey, change string) error
}

// sessionID names the session of a cookie: a keyed hash of its token, so that
// neither the log nor a dump of it holds anything of the token. The zero value is
// that of a stream which was opened without the cookie.
type sessionID [16]byte

// What a row of the log under sessionPrefix says became of a session.
const (
	sessionPrefix    = "session:" // before the ID, in hexadecimal
	sessionSignedOut = "signed_out"
	sessionRenewed   = "renewed" // the new end in Unix seconds and the new ID follow
)

// sessionKey is the key of the session IDs. All replicas share it; before it is
// known, and where it cannot be, one of this process alone is used, and a sign-out
// ends the streams of this replica.
type sessionKey struct {
	shared atomic.Pointer[[]byte]
	known  chan struct{} // closed once it is known that there is a shared key, or that there is none
	once   sync.Once
	own    []byte
}

// sessionKeyPatience is how long a stream waits for the key when the process has
// just started.
const sessionKeyPatience = time.Second

func newSessionKey() *sessionKey {
	own := make([]byte, 32)
	rand.Read(own) // crypto/rand.Read never fails
	return &sessionKey{known: make(chan struct{}), own: own}
}

// SetSessionKey gives the key that all replicas share; an empty one says that
// there is none for now, and leaves the one that is known.
func (g *Gateway) SetSessionKey(key []byte) {
	if len(key) > 0 {
		g.sessionKey.shared.Store(&key)
	}
	g.sessionKey.once.Do(func() { close(g.sessionKey.known) })
}

// session names the session of a cookie's token; no token has none.
func (g *Gateway) session(ctx context.Context, token string) (id sessionID) {
	if token == "" {
		return id
	}
	if g.config.Sessions != nil {
		waiting, cancel := context.WithTimeout(ctx, sessionKeyPatience)
		defer cancel()
		select {
		case <-g.sessionKey.known:
		case <-waiting.Done():
		}
	}
	key := g.sessionKey.own
	if shared := g.sessionKey.shared.Load(); shared != nil {
		key = *shared
	}
	h := hmac.New(sha256.New, key)
	h.Write([]byte("notification-gateway stream session "))
	h.Write([]byte(token))
	copy(id[:], h.Sum(nil))
	return id
}

// signOut ends the streams of a session, here at once and on every replica.
func (g *Gateway) signOut(ctx context.Context, userKey string, id sessionID) error {
	g.hub.changeSession(userKey, id, sessionSignedOut)
	return g.tellReplicas(ctx, userKey, id, sessionSignedOut)
}

// renew lets the streams of a session go on until the end of the token that
// replaces its own, here at once and on every replica. They belong to the new
// session then. end is in Unix seconds; zero is never.
func (g *Gateway) renew(ctx context.Context, userKey string, from, to sessionID, end int64) error {
	change := fmt.Sprintf("%s %d %x", sessionRenewed, end, to)
	g.hub.changeSession(userKey, from, change)
	return g.tellReplicas(ctx, userKey, from, change)
}

// tellReplicas writes a change to the log, at most once a second for each session
// and kind of change: a page that asks in a loop must not fill the log.
func (g *Gateway) tellReplicas(ctx context.Context, userKey string, id sessionID, change string) error {
	kind, _, _ := strings.Cut(change, " ")
	if g.config.Sessions == nil || !g.sessionWrites.allow(sessionWrite{id, kind}, time.Now()) {
		return nil
	}
	err := g.config.Sessions.ChangeSession(ctx, hex.EncodeToString(id[:]), userKey, change)
	if err != nil {
		g.sessionWrites.forget(sessionWrite{id, kind}) // so that it can be tried again
		return fmt.Errorf("write a session's change: %w", err)
	}
	return nil
}

// sessionChange reads an entry of the log that says what became of a session.
func sessionChange(e store.Entry) (id sessionID, ok bool) {
	text, found := strings.CutPrefix(e.UserKey, sessionPrefix)
	if !found || e.Disconnect == "" || e.ItemID == "" || len(text) != 2*len(id) {
		return id, false
	}
	_, err := hex.Decode(id[:], []byte(text))
	return id, err == nil
}

// changeSessions carries out what a batch says of sessions.
func (h *hub) changeSessions(entries []store.Entry) {
	for _, e := range entries {
		if id, ok := sessionChange(e); ok {
			h.changeSession(e.ItemID, id, e.Disconnect)
		}
	}
}

// changeSession carries out what became of a session of a user. To do it twice
// changes nothing.
func (h *hub) changeSession(userKey string, id sessionID, change string) {
	if id == (sessionID{}) {
		return
	}
	end, to, renewed := parseRenewal(change)
	var ended []*stream
	h.mu.Lock()
	for _, s := range h.streams.of(userKey) {
		switch {
		case s.session != id:
		case change == sessionSignedOut:
			ended = append(ended, s)
		case renewed:
			h.renewLocked(s, to, end)
		}
	}
	h.mu.Unlock()
	for _, s := range ended {
		h.end(s, endSignedOut)
	}
}

// renewLocked gives a stream to the session that replaces its own. The stream
// never ends earlier for it, because its own token was good until then.
func (h *hub) renewLocked(s *stream, to sessionID, end int64) {
	s.session = to
	if s.expires != 0 && (end == 0 || end > s.expires) {
		h.expiring.remove(s)
		s.expires = end
		h.expiring.add(s)
	}
}

// parseRenewal reads what a session was renewed to.
func parseRenewal(change string) (end int64, to sessionID, ok bool) {
	words := strings.Fields(change)
	if len(words) != 3 || words[0] != sessionRenewed || len(words[2]) != 2*len(to) {
		return 0, to, false
	}
	end, err := strconv.ParseInt(words[1], 10, 64)
	if err != nil || end < 0 {
		return 0, to, false
	}
	_, err = hex.Decode(to[:], []byte(words[2]))
	return end, to, err == nil
}

// sessionWrite is what is written once a second.
type sessionWrite struct {
	id   sessionID
	kind string
}

// sessionWrites remembers what was written in the last second. Its memory is
// bounded: past the bound all is forgotten, and one write more than that is done.
type sessionWrites struct {
	mu   sync.Mutex
	last map[sessionWrite]time.Time // guarded by mu
}

const (
	sessionWritePause = time.Second
	maxSessionWrites  = 4096
)

func (w *sessionWrites) allow(what sessionWrite, now time.Time) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if at, ok := w.last[what]; ok && now.Sub(at) < sessionWritePause {
		return false
	}
	if w.last == nil || len(w.last) >= maxSessionWrites {
		w.last = map[sessionWrite]time.Time{}
	}
	w.last[what] = now
	return true
}

func (w *sessionWrites) forget(what sessionWrite) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.last, what)
}
