package gateway

import (
	"context"
	"net/http"
	"slices"
	"time"

	"github.com/seed-64e334f9/notification-gateway/auth"
	"github.com/seed-64e334f9/notification-gateway/store"
)

// maxCookie is how long a cookie's name and value may be together: browsers drop a
// longer one without a word (RFC 6265bis section 5.6).
const maxCookie = 4096

// serveSession turns a Bearer token into a cookie that scripts cannot read, so
// that a page opens its stream with no token in any URL; DELETE ends it.
func (g *Gateway) serveSession(w http.ResponseWriter, r *http.Request) {
	switch {
	case !g.originAllowed(r):
		g.answer(w, r, errOrigin())
	case r.Method == http.MethodDelete:
		g.deleteSession(w, r)
	default:
		g.makeSession(w, r)
	}
}

// deleteSession clears the cookie, whatever is in it, and ends the streams that
// were opened with it. Where the other replicas could not be told the answer is an
// error, but the cookie is cleared and the streams of this replica are ended.
func (g *Gateway) deleteSession(w http.ResponseWriter, r *http.Request) {
	cookie := g.tokenCookie()
	cookie.MaxAge = -1
	if g.config.Login != nil {
		http.SetCookie(w, g.sessionCookie(&http.Cookie{Name: auth.SessionCookie, MaxAge: -1}))
	}
	err := g.signOutOfCRM(r)
	if token := g.cookieToken(r); token != "" && err == nil {
		_, recipient, refused := g.sessionOwner(r.Context(), token)
		if err = refused; err == nil {
			if failed := g.signOut(r.Context(), recipient.UserKey, g.session(r.Context(), token)); failed != nil {
				err = errCause(failed)
			}
		}
	}
	if err != nil && err.status == http.StatusServiceUnavailable {
		http.SetCookie(w, &cookie)
		g.answer(w, r, err)
		return
	}
	g.setCookie(w, cookie)
}

// makeSession gives the token of Authorization as a cookie. Where it replaces a
// cookie of the same user, the streams that were opened with that one go on.
func (g *Gateway) makeSession(w http.ResponseWriter, r *http.Request) {
	token, from, err := auth.Extract(r, g.config.CookieName)
	if err == nil && from != auth.SourceHeader {
		err = &auth.Error{Code: "invalid_request", Reason: "missing"}
	}
	if err != nil {
		g.answer(w, r, errToken(err))
		return
	}
	identity, recipient, refused := g.sessionOwner(r.Context(), token)
	if refused != nil {
		g.answer(w, r, refused)
		return
	}
	cookie := g.tokenCookie()
	if len(cookie.Name)+len(token) > maxCookie {
		g.answer(w, r, errTokenTooLarge())
		return
	}
	if old := g.cookieToken(r); old != "" && old != token {
		g.replaceSession(r.Context(), old, token, identity, recipient)
	}
	cookie.Value = token
	if !identity.Expires.IsZero() {
		cookie.Expires = identity.Expires
		cookie.MaxAge = max(1, int(time.Until(identity.Expires).Seconds()))
	}
	g.setCookie(w, cookie)
}

// replaceSession renews the streams of a cookie that is replaced. A stream keeps
// the user and the groups that it was opened for, so the new token must name the
// same ones. Streams that could not be renewed end with the old token, and their
// clients come again with the new cookie.
func (g *Gateway) replaceSession(ctx context.Context, old, token string, identity auth.Identity, recipient store.Recipient) {
	before, owner, refused := g.sessionOwner(ctx, old)
	if refused != nil || owner.UserKey != recipient.UserKey || !slices.Equal(before.Groups, identity.Groups) {
		return
	}
	if err := g.renew(ctx, recipient.UserKey, g.session(ctx, old), g.session(ctx, token), endOf(identity)); err != nil {
		g.hub.log.error("session not renewed on the other replicas", "err", err)
	}
}

// sessionOwner says whom a token names that is or becomes a cookie.
func (g *Gateway) sessionOwner(ctx context.Context, token string) (auth.Identity, store.Recipient, *httpError) {
	identity, err := g.verifier.Verify(ctx, token)
	if err != nil {
		return identity, store.Recipient{}, errToken(err)
	}
	recipient, refused := g.findRecipient(ctx, identity.Subject)
	return identity, recipient, refused
}

// cookieToken is the token of a request's cookie; empty where it has none, or
// several, of which none is known to be the browser's.
func (g *Gateway) cookieToken(r *http.Request) string {
	if cookies := r.CookiesNamed(g.config.CookieName); len(cookies) == 1 {
		return cookies[0].Value
	}
	return ""
}

// endOf is the Unix second from which an identity's token is refused; zero is
// never. It is rounded up, so that no stream ends before its token does.
func endOf(identity auth.Identity) int64 {
	if identity.GoodUntil.IsZero() {
		return 0
	}
	return identity.GoodUntil.Add(time.Second - 1).Unix()
}

// tokenCookie is the cookie that holds a token, without one.
func (g *Gateway) tokenCookie() http.Cookie {
	return http.Cookie{
		Name: g.config.CookieName, Path: g.config.PathPrefix + "/",
		HttpOnly: true, Secure: !g.config.CookieInsecure, SameSite: http.SameSiteStrictMode,
	}
}

func (g *Gateway) setCookie(w http.ResponseWriter, cookie http.Cookie) {
	http.SetCookie(w, &cookie)
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusNoContent)
}
