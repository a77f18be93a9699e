package auth

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Identity is whom a verified token names.
type Identity struct {
	Subject   string    // the user claim, an integer in decimal
	Expires   time.Time // exp; zero when the token has none
	Groups    []string  // keys of the groups claim, "group:" before each; nil without
	GoodUntil time.Time // exp with the leeway: from this moment on the token is refused; zero never
}

// parseObject reads one JSON object without losing digits. Two members of one
// name, at any depth, are refused: parsers differ in which of them counts (RFC
// 7515 section 4, RFC 7519 section 4).
func parseObject(text []byte) (map[string]any, error) {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	value, err := parseValue(d, 0)
	if err != nil {
		return nil, err
	}
	members, ok := value.(map[string]any)
	if !ok {
		return nil, errors.New("no object")
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("something follows the object")
	}
	return members, nil
}

const maxDepth = 64 // of objects and lists inside each other

func parseValue(d *json.Decoder, depth int) (any, error) {
	token, err := d.Token()
	if err != nil {
		return nil, err
	}
	open, isDelim := token.(json.Delim)
	if !isDelim {
		return token, nil
	}
	if depth == maxDepth {
		return nil, errors.New("it is nested too deeply")
	}
	members, list := map[string]any{}, []any{}
	for d.More() {
		var name string
		if open == '{' {
			key, err := d.Token()
			if err != nil {
				return nil, err
			}
			name, _ = key.(string)
			if _, twice := members[name]; twice {
				return nil, errors.New("a member stands twice")
			}
		}
		value, err := parseValue(d, depth+1)
		if err != nil {
			return nil, err
		}
		if open == '{' {
			members[name] = value
		} else {
			list = append(list, value)
		}
	}
	if _, err := d.Token(); err != nil { // the end
		return nil, err
	}
	if open == '{' {
		return members, nil
	}
	return list, nil
}

// validity is what is remembered of a verified token and judged anew each
// time it comes.
type validity struct {
	identity  Identity
	notBefore time.Time // zero when the token has no nbf
}

// check judges the times of a token (RFC 7519 sections 4.1.4 and 4.1.5).
func (v validity) check(now time.Time, leeway time.Duration) error {
	if end := v.identity.GoodUntil; !end.IsZero() && !now.Before(end) {
		return refused(reasonExpired)
	}
	if !v.notBefore.IsZero() && now.Add(leeway).Before(v.notBefore) {
		return refused(reasonEarly)
	}
	return nil
}

// readClaims judges everything in a verified payload that does not change
// with time.
func (v *Verifier) readClaims(payload []byte) (validity, error) {
	c := v.config
	claims, err := parseObject(payload)
	if err != nil {
		return validity{}, refused(reasonMalformed)
	}
	var out validity
	var times [3]time.Time
	for i, name := range []string{"exp", "nbf", "iat"} {
		if times[i], err = numericDate(claims, name); err != nil {
			return validity{}, err
		}
	}
	if times[0].IsZero() && !c.AllowNoExpiry {
		return validity{}, refused(reasonNoExpiry)
	}
	out.identity.Expires, out.notBefore = times[0], times[1]
	if !times[0].IsZero() {
		out.identity.GoodUntil = times[0].Add(c.Leeway)
	}
	if times[2].After(out.notBefore) {
		out.notBefore = times[2] // issued in the future: not yet valid either
	}
	if c.Issuer != "" && claims["iss"] != any(c.Issuer) {
		return validity{}, refused(reasonIssuer)
	}
	if c.Audience != "" && !isFor(claims["aud"], c.Audience) {
		return validity{}, refused(reasonAudience)
	}
	if kind, present := claims["token_type"]; present && kind != any("access") {
		return validity{}, refused(reasonTokenType)
	}
	if out.identity.Groups, err = v.groups.groups(claims); err != nil {
		return validity{}, err
	}
	out.identity.Subject, err = v.user.subject(claims)
	return out, err
}

// numericDate reads a NumericDate (RFC 7519 section 2), rounded down.
func numericDate(claims map[string]any, name string) (time.Time, error) {
	value, present := claims[name]
	if !present {
		return time.Time{}, nil
	}
	number, ok := value.(json.Number)
	if !ok {
		return time.Time{}, refused(reasonMalformed)
	}
	f, err := number.Float64()
	if err != nil || math.Abs(f) > 1e11 { // about the year 5138
		return time.Time{}, refused(reasonMalformed)
	}
	return time.Unix(int64(math.Floor(f)), 0), nil
}

func isFor(audience any, want string) bool {
	if list, ok := audience.([]any); ok {
		return slices.Contains(list, any(want))
	}
	return audience == any(want)
}

// subject reads the user claim: an integer, of any size, or a text.
func subject(claim any) (string, error) {
	switch value := claim.(type) {
	case json.Number:
		digits := strings.TrimPrefix(value.String(), "-")
		if len(digits) > 40 || strings.Trim(digits, "0123456789") != "" {
			return "", refused(reasonUserClaim)
		}
		if n, err := strconv.ParseInt(value.String(), 10, 64); err == nil {
			return strconv.FormatInt(n, 10), nil // -0 is 0
		}
		return value.String(), nil
	case string:
		if value == "" || len(value) > maxSubjectBytes || !utf8.ValidString(value) || strings.ContainsFunc(value, unicode.IsControl) {
			return "", refused(reasonUserClaim)
		}
		return value, nil
	}
	return "", refused(reasonUserClaim)
}
