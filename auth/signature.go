package auth

import (
	"context"
	"encoding/base64"
	"strings"

	"github.com/lestrrat-go/jwx/v2/jwa"
	"github.com/lestrrat-go/jwx/v2/jws"
)

// verifySignature returns the payload of a token that one of our keys signed.
func (v *Verifier) verifySignature(ctx context.Context, token string) ([]byte, error) {
	// One token has one spelling: the decoder below skips line ends, and is
	// strict about nothing but the last bits.
	if err := checkSpelling(token); err != nil {
		return nil, err
	}
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return nil, refused(reasonMalformed)
	}
	var decoded [3][]byte
	for i, part := range parts {
		var err error
		if decoded[i], err = base64.RawURLEncoding.Strict().DecodeString(part); err != nil {
			return nil, refused(reasonMalformed)
		}
	}
	header, err := parseObject(decoded[0])
	if err != nil {
		return nil, refused(reasonMalformed)
	}
	if _, critical := header["crit"]; critical {
		return nil, refused(reasonMalformed) // RFC 7515 section 4.1.11: we understand no extension
	}
	name, _ := header["alg"].(string)
	id, isText := header["kid"].(string)
	if _, present := header["kid"]; present && !isText {
		return nil, refused(reasonMalformed)
	}
	return v.verifyWith(ctx, token, jwa.SignatureAlgorithm(name), id)
}

// verifyWith tries the keys that may have signed a token. Where none has, the
// key set may have changed: its server is asked again, as often as the allowance
// of refreshFor permits.
func (v *Verifier) verifyWith(ctx context.Context, token string, alg jwa.SignatureAlgorithm, id string) ([]byte, error) {
	keys, err := v.candidates(alg, id)
	if err != nil {
		return nil, err
	}
	if payload, ok := verifyWithAny(token, alg, keys); ok {
		return payload, nil
	}
	if v.keys != nil && !isShared(alg) {
		known := v.keys.keys.Load()
		allowed, burst := &v.keys.unknownKey, unknownKeyBurst
		if len(v.keys.candidates(alg, id)) > 0 {
			allowed, burst = &v.keys.badSign, badSignBurst
		}
		if err := v.keys.refreshFor(ctx, allowed, burst); err != nil {
			return nil, err
		}
		if v.keys.keys.Load() != known {
			keys = v.keys.candidates(alg, id)
			if payload, ok := verifyWithAny(token, alg, keys); ok {
				return payload, nil
			}
		}
	}
	if len(keys) == 0 {
		return nil, refused(reasonKey)
	}
	return nil, refused(reasonSignature)
}

func verifyWithAny(token string, alg jwa.SignatureAlgorithm, keys []key) (payload []byte, ok bool) {
	for _, k := range keys {
		if payload, err := jws.Verify([]byte(token), jws.WithKey(alg, k.public)); err == nil {
			return payload, true
		}
	}
	return nil, false
}

// candidates returns the known keys that may have signed a token. Secrets have no
// key ID.
func (v *Verifier) candidates(alg jwa.SignatureAlgorithm, id string) (keys []key, err error) {
	if isShared(alg) {
		for _, secret := range *v.secrets.Load() {
			keys = append(keys, key{public: secret})
		}
		if keys == nil {
			return nil, refused(reasonAlgorithm)
		}
		return keys, nil
	}
	filed := v.filed.Load()
	if !isAsymmetric(alg) || filed == nil && v.keys == nil {
		return nil, refused(reasonAlgorithm)
	}
	if filed != nil {
		keys = matching(*filed, alg, id)
	}
	if v.keys != nil {
		keys = append(keys, v.keys.candidates(alg, id)...)
	}
	return keys, nil
}

func isShared(alg jwa.SignatureAlgorithm) bool {
	return alg == jwa.HS256 || alg == jwa.HS384 || alg == jwa.HS512
}

func isAsymmetric(alg jwa.SignatureAlgorithm) bool {
	switch alg {
	case jwa.RS256, jwa.RS384, jwa.RS512, jwa.PS256, jwa.PS384, jwa.PS512, jwa.ES256, jwa.ES384, jwa.ES512, jwa.EdDSA:
		return true
	}
	return false
}
