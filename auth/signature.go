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
	keys, fetched, err := v.candidates(alg, id)
	if err != nil {
		return nil, err
	}
	if payload, ok := verifyWithAny(token, alg, keys); ok {
		return payload, nil
	}
	if fetched != nil { // the algorithm is one of the key set's
		known := fetched.keys.Load()
		allowed, burst := &fetched.unknownKey, unknownKeyBurst
		if len(keys) > 0 {
			allowed, burst = &fetched.badSign, badSignBurst
		}
		if err := fetched.refreshFor(ctx, allowed, burst); err != nil {
			return nil, err
		}
		if fetched.keys.Load() != known {
			if keys, _, err = v.candidates(alg, id); err != nil {
				return nil, err
			}
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

// candidates returns the known keys that may verify alg, and the key set that
// may have more of them. Secrets have no key ID.
func (v *Verifier) candidates(alg jwa.SignatureAlgorithm, id string) (keys []key, fetched *keySet, err error) {
	switch alg {
	case jwa.HS256, jwa.HS384, jwa.HS512:
		for _, secret := range *v.secrets.Load() {
			keys = append(keys, key{public: secret})
		}
		if keys == nil {
			return nil, nil, refused(reasonAlgorithm)
		}
		return keys, nil, nil
	case jwa.RS256, jwa.RS384, jwa.RS512, jwa.PS256, jwa.PS384, jwa.PS512, jwa.ES256, jwa.ES384, jwa.ES512, jwa.EdDSA:
		if v.keys == nil {
			return nil, nil, refused(reasonAlgorithm)
		}
		if known := v.keys.keys.Load(); known != nil {
			for _, k := range *known {
				if k.mayVerify(alg, id) {
					keys = append(keys, k)
				}
			}
		}
		return keys, v.keys, nil
	}
	return nil, nil, refused(reasonAlgorithm)
}
