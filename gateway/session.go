package gateway

import (
	"net/http"
	"time"

	"github.com/seed-64e334f9/notification-gateway/auth"
)

// maxCookie is how long a cookie's name and value may be together: browsers drop a
// longer one without a word (RFC 6265bis section 5.6).
const maxCookie = 4096

// serveSession turns a Bearer token into a cookie that scripts cannot read, so
// that a page opens its stream with no token in any URL; DELETE ends it.
func (g *Gateway) serveSession(w http.ResponseWriter, r *http.Request) {
	cookie := http.Cookie{
		Name: g.config.CookieName, Path: g.config.PathPrefix + "/",
		HttpOnly: true, Secure: !g.config.CookieInsecure, SameSite: http.SameSiteStrictMode,
	}
	if !g.originAllowed(r) {
		g.answer(w, r, errOrigin())
		return
	}
	if r.Method == http.MethodDelete {
		cookie.MaxAge = -1
		if g.config.Login != nil {
			http.SetCookie(w, g.sessionCookie(&http.Cookie{Name: auth.SessionCookie, MaxAge: -1}))
		}
		g.setCookie(w, cookie)
		return
	}
	token, from, err := auth.Extract(r, g.config.CookieName)
	if err == nil && from != auth.SourceHeader {
		err = &auth.Error{Code: "invalid_request", Reason: "missing"}
	}
	if err != nil {
		g.answer(w, r, errToken(err))
		return
	}
	identity, _, refused := g.identify(r)
	if refused != nil {
		g.answer(w, r, refused)
		return
	}
	if len(cookie.Name)+len(token) > maxCookie {
		g.answer(w, r, errTokenTooLarge())
		return
	}
	cookie.Value = token
	if !identity.Expires.IsZero() {
		cookie.Expires = identity.Expires
		cookie.MaxAge = max(1, int(time.Until(identity.Expires).Seconds()))
	}
	g.setCookie(w, cookie)
}

func (g *Gateway) setCookie(w http.ResponseWriter, cookie http.Cookie) {
	http.SetCookie(w, &cookie)
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusNoContent)
}
