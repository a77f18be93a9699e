package auth

import (
	"context"
	"encoding/base64"
	"errors"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"

	"github.com/lestrrat-go/jwx/v2/jwa"
	"github.com/lestrrat-go/jwx/v2/jws"
)

// Config is what a Verifier needs: at least a secret or a key set.
type Config struct {
	Secrets       [][]byte      // shared secrets, see ParseSecrets; several while they rotate; see SetSecrets
	KeySetURL     string        // JWK Set; empty: none; see SetKeySetURL
	Issuer        string        // iss that a token must have; empty: any
	Audience      string        // aud that a token must have; empty: any
	UserClaim     string        // the claim that names the user; required
	Leeway        time.Duration // how far clocks may differ
	AllowNoExpiry bool          // also take tokens without exp, which stay good until their key goes
	Logger        *slog.Logger
}

// Verifier verifies tokens. It may be used from any goroutine.
type Verifier struct {
	config  Config
	secrets atomic.Pointer[[][]byte] // the shared secrets of now
	keys    *keySet                  // nil without a key set
	cache   *cache
}

// New makes a Verifier. It reads no key set yet: the key server may be down.
func New(config Config) (*Verifier, error) {
	if len(config.Secrets) == 0 && config.KeySetURL == "" {
		return nil, errors.New("neither a shared secret nor a key set")
	}
	if err := checkSecrets(config.Secrets); err != nil {
		return nil, err
	}
	if config.UserClaim == "" {
		return nil, errors.New("no user claim")
	}
	v := &Verifier{config: config, cache: newCache(maxVerifiedTokens)}
	v.secrets.Store(&config.Secrets)
	if config.KeySetURL != "" {
		v.keys = newKeySet(config.KeySetURL, v.cache.flush)
	}
	return v, nil
}

// Verify says whom a token names. Its errors are *Error, or wrap
// ErrUnavailable while no key set could be read.
func (v *Verifier) Verify(ctx context.Context, token string) (Identity, error) {
	known, epoch, ok := v.cache.get(token)
	if !ok {
		payload, err := v.verifySignature(ctx, token)
		if err != nil {
			return Identity{}, err
		}
		if known, err = v.config.readClaims(payload); err != nil {
			return Identity{}, err
		}
	}
	if err := known.check(time.Now(), v.config.Leeway); err != nil {
		return Identity{}, err
	}
	if !ok {
		v.cache.put(token, known, epoch)
	}
	return known.identity, nil
}

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
	alg := jwa.SignatureAlgorithm(name)
	keys, err := v.candidates(ctx, alg, id)
	if err != nil {
		return nil, err
	}
	for _, k := range keys {
		if payload, err := jws.Verify([]byte(token), jws.WithKey(alg, k.public)); err == nil {
			return payload, nil
		}
	}
	return nil, refused(reasonSignature)
}

// candidates returns the keys that may verify alg. Secrets have no key ID.
func (v *Verifier) candidates(ctx context.Context, alg jwa.SignatureAlgorithm, id string) ([]key, error) {
	switch alg {
	case jwa.HS256, jwa.HS384, jwa.HS512:
		secrets := *v.secrets.Load()
		if len(secrets) == 0 {
			return nil, refused(reasonAlgorithm)
		}
		keys := make([]key, len(secrets))
		for i, secret := range secrets {
			keys[i] = key{public: secret}
		}
		return keys, nil
	case jwa.RS256, jwa.RS384, jwa.RS512, jwa.PS256, jwa.PS384, jwa.PS512, jwa.ES256, jwa.ES384, jwa.ES512, jwa.EdDSA:
		if v.keys == nil {
			return nil, refused(reasonAlgorithm)
		}
		return v.keys.candidates(ctx, alg, id)
	}
	return nil, refused(reasonAlgorithm)
}

// Refresh reads the key set now; without one it does nothing.
func (v *Verifier) Refresh(ctx context.Context) error {
	if v.keys == nil {
		return nil
	}
	return v.keys.refresh(ctx, 0)
}

// KeysReady returns nil when every configured kind of key is at hand.
func (v *Verifier) KeysReady() error {
	if v.keys != nil && v.keys.keys.Load() == nil {
		return ErrUnavailable
	}
	return nil
}

// Run keeps the key set fresh until ctx ends, and returns its cause. While the
// key server is down, the keys that are known stay good.
func (v *Verifier) Run(ctx context.Context) error {
	for v.keys != nil {
		pause := refreshInterval
		if err := v.Refresh(ctx); err != nil && ctx.Err() == nil {
			v.config.Logger.Warn("key set not refreshed", "err", err)
			pause = refreshAtMost
		}
		select {
		case <-time.After(pause):
		case <-v.keys.moved:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	<-ctx.Done()
	return context.Cause(ctx)
}
