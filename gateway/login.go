package gateway

import (
	"context"
	"encoding/hex"
	"errors"
	"hash/maphash"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seed-64e334f9/notification-gateway/auth"
	"github.com/seed-64e334f9/notification-gateway/store"
)

// CRM says whom a request's own credentials name. *auth.CRM is one.
type CRM interface {
	Credentials(r *http.Request, tokenCookie string) (credentials *auth.Credentials, ok bool, err error)
	Identify(r *http.Request, credentials *auth.Credentials) (auth.Answer, error)
	Ask(ctx context.Context, credentials *auth.Credentials) (auth.Answer, error)
	Check(ctx context.Context, credentials *auth.Credentials) (auth.Identity, error)
	Session(answer auth.Answer, credentials *auth.Credentials) *http.Cookie
}

// Disconnects says how long ago a user was disconnected, or a session signed out,
// whose keys are given. *store.Store is one.
type Disconnects interface {
	SinceDisconnect(ctx context.Context, keys []string, within time.Duration) (ago time.Duration, ok bool, err error)
}

// Login makes the CRM say whom requests name that have no token of ours.
type Login struct {
	CRM         CRM
	Disconnects Disconnects
}

// visitor is whom a request names, and how that was found out.
type visitor struct {
	identity  auth.Identity
	recipient store.Recipient
	login     *login       // nil: by a token
	session   *http.Cookie // given with the answer; nil mostly
	cookie    string       // what its session is named by: the token, where it came as the cookie, or the CRM's credentials
}

// login is what the CRM is asked with again while a stream is open.
type login struct {
	credentials *auth.Credentials
	subject     string // whom the CRM named
}

// disconnectGuard is how much younger than a disconnect() an answer of the CRM must
// be. It covers a disconnect() whose transaction committed later, and the clocks of
// two replicas.
const disconnectGuard = time.Minute

// visitor says whom a request names, by its token or, where it has none and a CRM
// can be asked, by its other credentials.
func (g *Gateway) visitor(r *http.Request) (visitor, *httpError) {
	if g.config.Login != nil {
		credentials, ok, err := g.config.Login.CRM.Credentials(r, g.config.CookieName)
		if err != nil {
			return visitor{}, errToken(err)
		}
		if ok {
			return g.visitorOfCRM(r, credentials)
		}
	}
	return g.identify(r)
}

// visitorOfCRM asks the CRM, or takes an answer that it gave before. A browser adds
// cookies and some kinds of Authorization by itself, so the rules of the cookie's
// origin hold.
func (g *Gateway) visitorOfCRM(r *http.Request, credentials *auth.Credentials) (visitor, *httpError) {
	if !g.originAllowed(r) {
		return visitor{}, errOrigin()
	}
	crm := g.config.Login.CRM
	answer, err := crm.Identify(r, credentials)
	if err != nil {
		return visitor{}, errToken(err)
	}
	recipient, refused := g.findRecipient(r.Context(), answer.Identity.Subject)
	if refused != nil {
		return visitor{}, refused
	}
	if answer.Source != auth.FromCRM && g.isVoid(r.Context(), recipient, credentials, answer) {
		if answer, err = crm.Ask(r.Context(), credentials); err != nil {
			return visitor{}, errToken(err)
		}
		if recipient, refused = g.findRecipient(r.Context(), answer.Identity.Subject); refused != nil {
			return visitor{}, refused
		}
	}
	v := visitor{identity: answer.Identity, recipient: recipient, login: &login{credentials, answer.Identity.Subject}, cookie: sessionName(credentials)}
	if answer.Source != auth.FromSession {
		v.session = g.sessionCookie(crm.Session(answer, credentials))
	}
	return v, nil
}

// findRecipient says whom notifications are for. A recipient whose key is that of a
// group or of everybody would get what is for them.
func (g *Gateway) findRecipient(ctx context.Context, subject string) (store.Recipient, *httpError) {
	recipient, err := g.source.Recipient(ctx, subject)
	if err == nil && (recipient.UserKey == everybodyKey || strings.HasPrefix(recipient.UserKey, "group:")) {
		err = store.ErrNoRecipient
	}
	if err != nil {
		return recipient, errCause(err)
	}
	return recipient, nil
}

// isVoid reports whether the recipient was disconnected, or the session signed out,
// since the CRM gave an answer, or whether that cannot be found out.
func (g *Gateway) isVoid(ctx context.Context, recipient store.Recipient, credentials *auth.Credentials, answer auth.Answer) bool {
	id := g.session(ctx, sessionName(credentials))
	keys := []string{recipient.UserKey, sessionPrefix + hex.EncodeToString(id[:])}
	ago, ok, err := g.config.Login.Disconnects.SinceDisconnect(ctx, keys, auth.SessionLife+2*disconnectGuard)
	return err != nil || ok && ago <= time.Since(answer.At)+disconnectGuard
}

// sessionName is what the session of the CRM's credentials is named by. No token is
// written so.
func sessionName(credentials *auth.Credentials) string { return "CRM\n" + credentials.Key() }

// signOutOfCRM ends the streams that were opened with a request's credentials of the
// CRM, and makes the gateway's own sessions for them void.
func (g *Gateway) signOutOfCRM(r *http.Request) *httpError {
	if g.config.Login == nil {
		return nil
	}
	credentials, ok, err := g.config.Login.CRM.Credentials(r, g.config.CookieName)
	if !ok || err != nil {
		return nil
	}
	answer, err := g.config.Login.CRM.Identify(r, credentials)
	if err != nil {
		return errToken(err)
	}
	recipient, refused := g.findRecipient(r.Context(), answer.Identity.Subject)
	if refused != nil {
		return refused
	}
	if err := g.signOut(r.Context(), recipient.UserKey, g.session(r.Context(), sessionName(credentials))); err != nil {
		return errCause(err)
	}
	return nil
}

// sessionCookie gives the gateway's own session the attributes of the token's
// cookie; nil stays nil.
func (g *Gateway) sessionCookie(c *http.Cookie) *http.Cookie {
	if c == nil {
		return nil
	}
	c.Path, c.HttpOnly, c.Secure, c.SameSite = g.config.PathPrefix+"/", true, !g.config.CookieInsecure, http.SameSiteStrictMode
	return c
}

const loginWorkers = 16 // questions to the CRM at a time while streams are checked: it has others to answer

// CheckLogins asks the CRM again about open streams, each once in the interval, and
// ends those that it refuses or whose credentials name somebody else by now, with
// revoked, until ctx ends; it returns ctx's cause. When the CRM cannot be asked, all
// streams go on.
func (g *Gateway) CheckLogins(ctx context.Context, interval time.Duration) error {
	tick := time.NewTicker(max(interval/checkSlices, time.Millisecond))
	defer tick.Stop()
	seed := maphash.MakeSeed()
	for slice := uint64(0); ; slice = (slice + 1) % checkSlices {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		in := func(l *login) bool { return maphash.String(seed, l.credentials.Key())%checkSlices == slice }
		if err := g.checkLogins(ctx, in); err != nil && ctx.Err() == nil {
			g.config.Logger.Warn("logins not checked, their streams go on", "err", err)
		}
	}
}

// checkLogins asks about the logins in a slice. The first answer that could not be
// had ends the round: the CRM has enough to do.
func (g *Gateway) checkLogins(ctx context.Context, in func(*login) bool) error {
	logins := make(chan []*stream)
	var unavailable atomic.Pointer[error]
	var workers sync.WaitGroup
	for range loginWorkers {
		workers.Go(func() {
			for streams := range logins {
				if unavailable.Load() != nil {
					continue
				}
				if err := g.checkLogin(ctx, streams); err != nil {
					unavailable.Store(&err)
				}
			}
		})
	}
	for _, streams := range g.hub.loggedIn(in) {
		logins <- streams
	}
	close(logins)
	workers.Wait()
	if err := unavailable.Load(); err != nil {
		return *err
	}
	return nil
}

// checkLogin asks about streams that were opened with the same credentials.
func (g *Gateway) checkLogin(ctx context.Context, streams []*stream) error {
	identity, err := g.config.Login.CRM.Check(ctx, streams[0].login.credentials)
	var refused *auth.Error
	if err != nil && !errors.As(err, &refused) {
		return err
	}
	ended := 0
	for _, s := range streams {
		if refused != nil || s.login.subject != identity.Subject {
			g.hub.end(s, endRevoked)
			ended++
		}
	}
	if ended > 0 {
		g.config.Logger.Info("streams of a login that the CRM refuses revoked", slog.Int("streams", ended))
	}
	return nil
}

// loggedIn returns the open streams that the CRM was asked for, by their
// credentials.
func (h *hub) loggedIn(in func(*login) bool) map[string][]*stream {
	h.mu.Lock()
	defer h.mu.Unlock()
	out := map[string][]*stream{}
	for s := range h.streams.all() {
		if s.login != nil && in(s.login) {
			key := s.login.credentials.Key()
			out[key] = append(out[key], s)
		}
	}
	return out
}
