package auth

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/lestrrat-go/jwx/v2/jwa"
	"github.com/lestrrat-go/jwx/v2/jws"
)

// Claims are those of an access token for trying out. userClaim is as in Config; of
// several claims each gets its part of user, which colons separate. A part that is
// written as an integer becomes one.
func Claims(userClaim, user string, life time.Duration) (map[string]any, error) {
	names, err := parseSelector(userClaim)
	if err != nil {
		return nil, fmt.Errorf("the user claim: %w", err)
	}
	parts := []string{user}
	if len(names) > 1 {
		parts = strings.Split(user, ":")
	}
	if len(parts) != len(names) {
		return nil, fmt.Errorf("the user must have %d parts with colons between them", len(names))
	}
	now := time.Now()
	claims := map[string]any{"token_type": "access", "iat": now.Unix(), "exp": now.Add(life).Unix()}
	for i, path := range names {
		var value any = parts[i]
		if n, err := strconv.ParseInt(parts[i], 10, 64); err == nil {
			value = n
		}
		object := claims
		for _, step := range path[:len(path)-1] {
			inner, ok := object[step].(map[string]any)
			if !ok {
				inner = map[string]any{}
				object[step] = inner
			}
			object = inner
		}
		object[path[len(path)-1]] = value
	}
	if _, err := names.subject(asDecoded(claims)); err != nil {
		return nil, errors.New("no token can name this user")
	}
	return claims, nil
}

// asDecoded returns claims as they are read from a token.
func asDecoded(claims map[string]any) map[string]any {
	text, err := json.Marshal(claims)
	if err != nil {
		return nil
	}
	members, err := parseObject(text)
	if err != nil {
		return nil
	}
	return members
}

// Mint signs claims with a shared secret (HS256), for trying out.
func Mint(secret []byte, claims map[string]any) (string, error) {
	payload, err := json.Marshal(claims)
	if err != nil {
		return "", fmt.Errorf("encode the claims: %w", err)
	}
	header := jws.NewHeaders()
	if err := header.Set(jws.TypeKey, "JWT"); err != nil {
		return "", fmt.Errorf("set the header: %w", err)
	}
	token, err := jws.Sign(payload, jws.WithKey(jwa.HS256, secret, jws.WithProtectedHeaders(header)))
	if err != nil {
		return "", fmt.Errorf("sign: %w", err)
	}
	return string(token), nil
}
