package auth

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lestrrat-go/jwx/v2/jwa"
)

const (
	fetchDeadline   = 5 * time.Second
	refreshInterval = time.Minute      // how long a key that left the set still counts, at most
	retryInterval   = 10 * time.Second // after a refresh that failed

	// A token may make the set be read again, because its key may be a new one.
	// Anybody can write such a token, so the key server is spared: for unknown
	// key IDs three refreshes at once and then one in ten seconds, for bad
	// signatures one in ten seconds. They are counted apart, so that bad
	// signatures cannot use up what a new key ID needs.
	demandInterval  = 10 * time.Second
	unknownKeyBurst = 3
	badSignBurst    = 1
)

// keySet is a JWK Set (RFC 7517 section 5) at a URL. Once read, its keys stay
// good while the server is down.
type keySet struct {
	client  *http.Client
	changed func()                // called after other keys were read
	keys    atomic.Pointer[[]key] // nil until read once; another pointer means other keys
	state   atomic.Pointer[keySetState]
	url     atomic.Pointer[string]
	due     chan struct{} // capacity 1: one pending wake of Run is enough, it reads the last URL

	mu         sync.Mutex // held over a fetch: requests that need one wait for the same
	began      time.Time  // when the last fetch did; guarded by mu
	unknownKey allowance  // guarded by mu
	badSign    allowance  // guarded by mu
}

// keySetState is how the refreshes went.
type keySetState struct {
	succeeded time.Time // the last time; zero never
	failures  uint64    // in all
	leftOut   int       // keys of the set that cannot be used
	err       error     // the last refresh's; nil when it succeeded
}

// allowance permits some acts at once and then one in an interval (the generic
// cell rate algorithm, ITU-T I.371). Its zero value has permitted none yet.
type allowance struct{ next time.Time }

func (a *allowance) take(now time.Time, burst int, interval time.Duration) bool {
	if a.next.After(now.Add(time.Duration(burst-1) * interval)) {
		return false
	}
	if a.next.Before(now) {
		a.next = now
	}
	a.next = a.next.Add(interval)
	return true
}

func newKeySet(url string, changed func()) *keySet {
	s := &keySet{changed: changed, due: make(chan struct{}, 1), client: &http.Client{
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

// refreshSoon makes Run read the set now.
func (s *keySet) refreshSoon() {
	select {
	case s.due <- struct{}{}:
	default: // a wake is pending already
	}
}

// refresh reads the key set now.
func (s *keySet) refresh(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.refreshLocked(ctx)
}

// refreshFor reads the key set because of a token, if the allowance permits it.
// It returns an error that wraps ErrUnavailable when the last fetch, this one or
// an earlier one, failed: whether the token is good could not be found out.
func (s *keySet) refreshFor(ctx context.Context, a *allowance, burst int) error {
	asked := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	// A fetch that began while this token waited has what this one would bring.
	if !s.began.After(asked) && a.take(time.Now(), burst, demandInterval) {
		s.refreshLocked(ctx) // it is in the state
	}
	if err := s.state.Load().err; err != nil {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	if s.keys.Load() == nil {
		return ErrUnavailable
	}
	return nil
}

func (s *keySet) refreshLocked(ctx context.Context) error {
	s.began = time.Now()
	keys, leftOut, err := s.fetch(ctx)
	state := *s.state.Load()
	if err != nil {
		state.failures, state.err = state.failures+1, fmt.Errorf("read the key set: %w", err)
		s.state.Store(&state)
		return state.err
	}
	if known := s.keys.Load(); known == nil || !reflect.DeepEqual(*known, keys) {
		s.keys.Store(&keys)
		s.changed()
	}
	state.succeeded, state.leftOut, state.err = time.Now(), leftOut, nil
	s.state.Store(&state)
	return nil
}

// candidates returns the keys of the set that may have signed a token.
func (s *keySet) candidates(alg jwa.SignatureAlgorithm, id string) []key {
	if known := s.keys.Load(); known != nil {
		return matching(*known, alg, id)
	}
	return nil
}

func (s *keySet) fetch(ctx context.Context) (keys []key, leftOut int, err error) {
	r, err := http.NewRequestWithContext(context.WithoutCancel(ctx), http.MethodGet, *s.url.Load(), nil) // others wait for it too
	if err != nil {
		return nil, 0, errors.New("the URL is not valid")
	}
	r.Header.Set("Accept", "application/jwk-set+json, application/json")
	resp, err := s.client.Do(r)
	if err != nil {
		var cause interface{ Unwrap() error }
		if errors.As(err, &cause) && cause.Unwrap() != nil {
			err = cause.Unwrap() // without the URL, which may hold a credential
		}
		return nil, 0, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, 0, fmt.Errorf("the server answered %d", resp.StatusCode)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxKeySetBytes+1))
	if err != nil {
		return nil, 0, fmt.Errorf("read the body: %w", err)
	}
	if len(body) > maxKeySetBytes {
		return nil, 0, fmt.Errorf("the body has more than %d bytes", maxKeySetBytes)
	}
	return parseKeySet(body)
}
