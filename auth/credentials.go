package auth

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"net/http"
	"strings"
)

// Credentials are what of a request names somebody to the CRM, and what the CRM
// needs to answer as it would answer the client itself. They hold secrets: they
// are never logged, and remembered by a keyed hash alone.
type Credentials struct {
	cookies       string // the forwarded ones, as the Cookie header writes them
	authorization string
	host          string // some CRMs serve several tenants by it
	proto         []string
	forwardedFor  []string
}

// Credentials reports whether the CRM is to say whom a request names, and returns
// what it is asked with. A request with a token of the gateway's own is not for
// the CRM: a Bearer token of three parts where there are keys, the query parameter
// token, or, where there are keys, the cookie of a token. Neither is a request
// without credentials.
func (c *CRM) Credentials(r *http.Request, tokenCookie string) (*Credentials, bool, error) {
	headers := r.Header.Values("Authorization")
	if len(headers) > 1 {
		return nil, false, refused(reasonMalformed)
	}
	authorization := strings.Join(headers, "")
	switch {
	case c.config.Keys && isJWT(authorization), r.URL.RawQuery != "" && r.URL.Query().Has("token"):
		return nil, false, nil
	case authorization == "" && c.config.Keys && len(r.CookiesNamed(tokenCookie)) > 0:
		return nil, false, nil
	}
	cookies := c.forwardedCookies(r)
	if cookies == "" && strings.TrimSpace(authorization) == "" {
		return nil, false, nil
	}
	return &Credentials{
		cookies: cookies, authorization: authorization, host: r.Host,
		proto: r.Header.Values("X-Forwarded-Proto"), forwardedFor: r.Header.Values("X-Forwarded-For"),
	}, true, nil
}

// isJWT reports whether an Authorization header has a Bearer token of the form of
// a JWT (RFC 7515 section 7.1).
func isJWT(authorization string) bool {
	scheme, token, _ := strings.Cut(strings.ReplaceAll(strings.TrimSpace(authorization), "\t", " "), " ")
	return strings.EqualFold(scheme, "Bearer") && strings.Count(token, ".") == 2
}

// forwardedCookies returns the named cookies of a request as they came (RFC 6265
// section 4.2.1), in their order, duplicates too.
func (c *CRM) forwardedCookies(r *http.Request) string {
	var found []string
	for _, header := range r.Header.Values("Cookie") {
		for pair := range strings.SplitSeq(header, ";") {
			pair = strings.TrimSpace(pair)
			if name, _, ok := strings.Cut(pair, "="); ok && c.cookies[strings.TrimSpace(name)] {
				found = append(found, pair)
			}
		}
	}
	return strings.Join(found, "; ")
}

// Key is the same for equal credentials and differs for others. It holds them, so it
// must not be kept or logged.
func (c *Credentials) Key() string { return c.host + "\n" + c.cookies + "\n" + c.authorization }

// sum is the keyed hash of the credentials. The host counts with them, because
// the same cookie may name somebody else at another tenant's host. X-Forwarded-For
// does not: it changes with the way of a request.
func (c *Credentials) sum(key []byte) (sum [sha256.Size]byte) {
	h := hmac.New(sha256.New, key)
	for _, text := range []string{c.cookies, c.authorization, c.host} {
		var size [8]byte
		binary.BigEndian.PutUint64(size[:], uint64(len(text)))
		h.Write(size[:])
		h.Write([]byte(text))
	}
	h.Sum(sum[:0])
	return sum
}
