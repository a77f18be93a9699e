package auth

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"
)

// Config is what a Verifier needs: at least a secret, a key set or keys of a file,
// unless NoKeys is set.
type Config struct {
	Secrets       [][]byte      // shared secrets, see ParseSecrets; several while they rotate; see SetSecrets
	KeySetURL     string        // JWK Set; empty: none; see SetKeySetURL
	Keys          []byte        // a file's JWK Set or PEM public keys; nil: none; see SetKeys
	Issuer        string        // iss that a token must have; empty: any
	Audience      string        // aud that a token must have; empty: any
	UserClaim     string        // the claim that names the user, see CheckSelector; required
	GroupsClaim   string        // the claim that names groups of the user; empty: none
	NoKeys        bool          // there may be no keys at all: every token is refused then
	Leeway        time.Duration // how far clocks may differ
	AllowNoExpiry bool          // also take tokens without exp, which stay good until their key goes
	Logger        *slog.Logger
}

// Verifier verifies tokens. It may be used from any goroutine.
type Verifier struct {
	config  Config
	user    selector                 // of Config.UserClaim
	groups  selector                 // of Config.GroupsClaim; nil without
	secrets atomic.Pointer[[][]byte] // the shared secrets of now
	keys    *keySet                  // nil without a key set at a URL
	filed   atomic.Pointer[[]key]    // the keys of Config.Keys and SetKeys; nil without
	cache   *cache
}

// New makes a Verifier. It reads no key set yet: the key server may be down.
func New(config Config) (*Verifier, error) {
	if len(config.Secrets) == 0 && config.KeySetURL == "" && config.Keys == nil && !config.NoKeys {
		return nil, errors.New("neither a shared secret nor a key set")
	}
	if err := checkSecrets(config.Secrets); err != nil {
		return nil, err
	}
	user, err := parseSelector(config.UserClaim)
	if err != nil {
		return nil, fmt.Errorf("the user claim: %w", err)
	}
	var groups selector
	if config.GroupsClaim != "" {
		if groups, err = parseSelector(config.GroupsClaim); err != nil {
			return nil, fmt.Errorf("the groups claim: %w", err)
		}
	}
	v := &Verifier{config: config, user: user, groups: groups, cache: newCache(maxVerifiedTokens)}
	v.secrets.Store(&config.Secrets)
	if config.Keys != nil {
		keys, err := parseKeys(config.Keys)
		if err != nil {
			return nil, err
		}
		v.filed.Store(&keys)
	}
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
		if known, err = v.readClaims(payload); err != nil {
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

// Refresh reads the key set now; without one it does nothing.
func (v *Verifier) Refresh(ctx context.Context) error {
	if v.keys == nil {
		return nil
	}
	return v.keys.refresh(ctx)
}

// RefreshSoon makes Run read the key set now; without one it does nothing.
func (v *Verifier) RefreshSoon() {
	if v.keys != nil {
		v.keys.refreshSoon()
	}
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
			pause = retryInterval
		}
		select {
		case <-time.After(pause):
		case <-v.keys.due:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	<-ctx.Done()
	return context.Cause(ctx)
}
