package auth

import (
	"net/http"
	"net/url"
	"strings"
)

// Source is where in a request a token stood.
type Source int

// The places, in the order in which they are looked at: what the client said
// explicitly outranks what its browser adds.
const (
	SourceNone Source = iota
	SourceHeader
	SourceQuery
	SourceCookie
)

// Extract finds a request's token: Authorization: Bearer (RFC 6750 section
// 2.1), the query parameter token (section 2.3, for EventSource, which cannot
// set headers), or the cookie of the given name. The first place that has one
// decides; a bad token there is an *Error and the next place is not tried.
// Without a token it returns SourceNone and no error.
func Extract(r *http.Request, cookieName string) (token string, source Source, err error) {
	headers := r.Header.Values("Authorization")
	if len(headers) > 1 {
		return "", SourceHeader, refused(reasonMalformed)
	}
	if len(headers) == 1 {
		scheme, rest, _ := strings.Cut(strings.ReplaceAll(strings.TrimSpace(headers[0]), "\t", " "), " ")
		if strings.EqualFold(scheme, "Bearer") { // RFC 9110 section 11.1: schemes are case-insensitive
			return checked(strings.TrimLeft(rest, " "), SourceHeader)
		}
	}
	if r.URL.RawQuery != "" {
		query, err := url.ParseQuery(r.URL.RawQuery)
		if values, present := query["token"]; present || err != nil {
			if err != nil || len(values) != 1 {
				return "", SourceQuery, refused(reasonMalformed)
			}
			return checked(values[0], SourceQuery)
		}
	}
	var found []string
	for _, c := range r.CookiesNamed(cookieName) {
		found = append(found, c.Value)
	}
	switch len(found) {
	case 0:
		return "", SourceNone, nil
	case 1:
		return checked(found[0], SourceCookie)
	}
	return "", SourceCookie, refused(reasonMalformed)
}

// checked refuses what cannot be a compact JWS before anything is decoded.
func checked(token string, source Source) (string, Source, error) {
	if err := checkSpelling(token); err != nil {
		return "", source, err
	}
	return token, source, nil
}

// checkSpelling refuses a token that is too long or that has a byte which a
// compact JWS (RFC 7515 section 7.1) cannot have.
func checkSpelling(token string) error {
	if len(token) > maxTokenBytes {
		return refused(reasonTooLarge)
	}
	if token == "" {
		return refused(reasonMalformed)
	}
	for i := range len(token) {
		if !isTokenByte(token[i]) {
			return refused(reasonMalformed)
		}
	}
	return nil
}

// isTokenByte reports whether c is base64url (RFC 4648 section 5) or a dot.
func isTokenByte(c byte) bool {
	return c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-' || c == '_' || c == '.'
}
