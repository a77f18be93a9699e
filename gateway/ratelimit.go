package gateway

import (
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"
)

// limiter bounds the requests of one address in a minute, with a bucket of
// tokens for each address. Its memory is bounded.
type limiter struct {
	perMinute int
	trusted   []netip.Prefix

	mu      sync.Mutex
	buckets map[netip.Addr]bucket // guarded by mu
}

type bucket struct {
	tokens float64
	at     time.Time
}

// maxBuckets bounds the addresses that are remembered, to some 6 MB. Past it an
// arbitrary one is forgotten for each new one. To refuse new ones instead would
// let an attacker with many addresses shut everybody out.
const maxBuckets = 65536

// networkBits is what of an IPv6 address counts: a network of 64 bits is what
// one customer gets (RFC 6177), and its addresses are free.
const networkBits = 64

func newLimiter(perMinute int, trusted []netip.Prefix) *limiter {
	return &limiter{perMinute: perMinute, trusted: trusted, buckets: map[netip.Addr]bucket{}}
}

// allow takes a token of the request's address; without one it says how long
// to wait.
func (l *limiter) allow(r *http.Request, now time.Time) (wait time.Duration, ok bool) {
	if l.perMinute == 0 {
		return 0, true
	}
	address, known := l.address(r)
	if !known {
		return 0, true
	}
	rate := float64(l.perMinute) / 60 // tokens a second
	l.mu.Lock()
	defer l.mu.Unlock()
	b, seen := l.buckets[address]
	if !seen {
		if len(l.buckets) >= maxBuckets {
			for other := range l.buckets { // map order is random enough
				delete(l.buckets, other)
				break
			}
		}
		b = bucket{tokens: float64(l.perMinute), at: now}
	}
	b.tokens = min(float64(l.perMinute), b.tokens+rate*now.Sub(b.at).Seconds())
	b.at = now
	if b.tokens < 1 {
		l.buckets[address] = b
		return time.Duration((1 - b.tokens) / rate * float64(time.Second)), false
	}
	b.tokens--
	l.buckets[address] = b
	return 0, true
}

// address is the client's: the peer's, or, behind trusted proxies, the
// rightmost address of X-Forwarded-For that is not one of them. What stands
// left of it was written by the client and proves nothing.
func (l *limiter) address(r *http.Request) (netip.Addr, bool) {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}, false
	}
	address := peer.Addr().Unmap()
	hops := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for i := len(hops) - 1; i >= 0 && l.trusts(address); i-- {
		next, ok := parseHop(strings.TrimSpace(hops[i]))
		if !ok {
			break
		}
		address = next.Unmap()
	}
	if address.Is6() {
		network, err := address.WithZone("").Prefix(networkBits)
		return network.Addr(), err == nil
	}
	return address, true
}

// parseHop reads an address as proxies write it, some with a port.
func parseHop(text string) (netip.Addr, bool) {
	if a, err := netip.ParseAddr(text); err == nil {
		return a, true
	}
	p, err := netip.ParseAddrPort(text)
	return p.Addr(), err == nil
}

func (l *limiter) trusts(a netip.Addr) bool {
	for _, p := range l.trusted {
		if p.Contains(a) {
			return true
		}
	}
	return false
}
