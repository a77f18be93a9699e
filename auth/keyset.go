package auth

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lestrrat-go/jwx/v2/jwa"
	"github.com/lestrrat-go/jwx/v2/jwk"
)

const (
	fetchDeadline   = 5 * time.Second
	refreshInterval = 5 * time.Minute  // in the background
	refreshAtMost   = 10 * time.Second // for key IDs that are not known
)

// key is a public key and the algorithms that it may verify.
type key struct {
	id         string
	algorithms []jwa.SignatureAlgorithm
	public     any
}

// keySet is a JWK Set (RFC 7517 section 5) at a URL. Once read, its keys stay
// good while the server is down.
type keySet struct {
	client  *http.Client
	changed func()                // called when other keys were read
	keys    atomic.Pointer[[]key] // nil until read once
	state   atomic.Pointer[keySetState]
	url     atomic.Pointer[string]
	moved   chan struct{} // capacity 1: one pending wake of Run is enough, it reads the last URL

	mu    sync.Mutex // held over a fetch: those who need one wait for the same
	tried time.Time  // guarded by mu
}

// keySetState is how the refreshes went.
type keySetState struct {
	succeeded time.Time // the last time; zero never
	failures  uint64    // in all
	err       error     // the last refresh's; nil when it succeeded
}

func newKeySet(url string, changed func()) *keySet {
	s := &keySet{changed: changed, moved: make(chan struct{}, 1), client: &http.Client{
		Timeout: fetchDeadline,
		CheckRedirect: func(r *http.Request, via []*http.Request) error {
			if r.URL.Host != via[0].URL.Host || r.URL.Scheme != via[0].URL.Scheme {
				return errors.New("the key set redirects to another host")
			}
			if len(via) > 3 {
				return errors.New("the key set redirects too often")
			}
			return nil
		},
	}}
	s.url.Store(&url)
	s.state.Store(&keySetState{})
	return s
}

// move has the set read from another URL, soon.
func (s *keySet) move(url string) {
	s.url.Store(&url)
	select {
	case s.moved <- struct{}{}:
	default: // a wake is pending already
	}
}

// refresh reads the key set, unless somebody did in the last atMost.
func (s *keySet) refresh(ctx context.Context, atMost time.Duration) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.tried.IsZero() && time.Since(s.tried) < atMost {
		return nil
	}
	s.tried = time.Now()
	keys, err := s.fetch(ctx)
	state := *s.state.Load()
	if err != nil {
		state.failures, state.err = state.failures+1, fmt.Errorf("read the key set: %w", err)
		s.state.Store(&state)
		return state.err
	}
	s.keys.Store(&keys)
	state.succeeded, state.err = time.Now(), nil
	s.state.Store(&state)
	s.changed()
	return nil
}

func (s *keySet) fetch(ctx context.Context) ([]key, error) {
	r, err := http.NewRequestWithContext(context.WithoutCancel(ctx), http.MethodGet, *s.url.Load(), nil) // others wait for it too
	if err != nil {
		return nil, errors.New("the URL is not valid")
	}
	r.Header.Set("Accept", "application/jwk-set+json, application/json")
	resp, err := s.client.Do(r)
	if err != nil {
		var cause interface{ Unwrap() error }
		if errors.As(err, &cause) && cause.Unwrap() != nil {
			err = cause.Unwrap() // without the URL, which may hold a credential
		}
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the server answered %d", resp.StatusCode)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxKeySetBytes+1))
	if err != nil {
		return nil, fmt.Errorf("read the body: %w", err)
	}
	if len(body) > maxKeySetBytes {
		return nil, fmt.Errorf("the body has more than %d bytes", maxKeySetBytes)
	}
	set, err := jwk.Parse(body)
	if err != nil {
		return nil, errors.New("the body is no JWK Set")
	}
	var keys []key
	for i := range set.Len() {
		k, _ := set.Key(i)
		if usable, ok := publicKey(k); ok {
			keys = append(keys, usable)
		}
	}
	if len(keys) == 0 {
		return nil, errors.New("the JWK Set has no usable signature key")
	}
	return keys, nil
}

// publicKey takes over an asymmetric signature key; everything else, above
// all a symmetric key that would admit HMAC, is left out.
func publicKey(k jwk.Key) (key, bool) {
	if use := k.KeyUsage(); use != "" && use != "sig" {
		return key{}, false
	}
	public, err := k.PublicKey()
	if err != nil {
		return key{}, false
	}
	out := key{id: k.KeyID()}
	if err := public.Raw(&out.public); err != nil {
		return key{}, false
	}
	switch p := out.public.(type) {
	case *rsa.PublicKey:
		if p.N.BitLen() < minRSABits {
			return key{}, false
		}
		out.algorithms = []jwa.SignatureAlgorithm{jwa.RS256, jwa.RS384, jwa.RS512, jwa.PS256, jwa.PS384, jwa.PS512}
	case *ecdsa.PublicKey:
		curve := map[int]jwa.SignatureAlgorithm{256: jwa.ES256, 384: jwa.ES384, 521: jwa.ES512}
		alg, ok := curve[p.Curve.Params().BitSize]
		if !ok {
			return key{}, false
		}
		out.algorithms = []jwa.SignatureAlgorithm{alg}
	case ed25519.PublicKey:
		out.algorithms = []jwa.SignatureAlgorithm{jwa.EdDSA}
	default:
		return key{}, false
	}
	if alg := k.Algorithm().String(); alg != "" {
		if !slices.Contains(out.algorithms, jwa.SignatureAlgorithm(alg)) {
			return key{}, false
		}
		out.algorithms = []jwa.SignatureAlgorithm{jwa.SignatureAlgorithm(alg)}
	}
	return out, true
}

// candidates returns the keys that may have signed a token; a key ID that is
// not known makes the set be read again.
func (s *keySet) candidates(ctx context.Context, alg jwa.SignatureAlgorithm, id string) ([]key, error) {
	find := func() []key {
		var out []key
		if known := s.keys.Load(); known != nil {
			for _, k := range *known {
				if slices.Contains(k.algorithms, alg) && (id == "" || k.id == id) {
					out = append(out, k)
				}
			}
		}
		return out
	}
	if out := find(); len(out) > 0 {
		return out, nil
	}
	err := s.refresh(ctx, refreshAtMost)
	if s.keys.Load() == nil {
		return nil, errors.Join(ErrUnavailable, err)
	}
	if out := find(); len(out) > 0 {
		return out, nil
	}
	return nil, refused(reasonKey)
}
