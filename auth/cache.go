package auth

import (
	"crypto/sha256"
	"sync"
)

// cache remembers verified tokens by their hash: a reconnect brings the same
// token, and a signature costs up to a hundred times a look-up. It never holds
// a token, and forgets everything when the keys change.
type cache struct {
	limit int

	mu     sync.Mutex
	tokens map[[sha256.Size]byte]validity // guarded by mu
	epoch  uint64                         // counts flushes; guarded by mu
}

func newCache(limit int) *cache {
	return &cache{limit: limit, tokens: map[[sha256.Size]byte]validity{}}
}

func (c *cache) get(token string) (known validity, epoch uint64, ok bool) {
	id := sha256.Sum256([]byte(token))
	c.mu.Lock()
	defer c.mu.Unlock()
	known, ok = c.tokens[id]
	return known, c.epoch, ok
}

// put remembers a token, unless the keys changed since epoch: what an old key
// verified proves nothing any more. A full cache drops any other token.
func (c *cache) put(token string, v validity, epoch uint64) {
	id := sha256.Sum256([]byte(token))
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.epoch != epoch {
		return
	}
	if len(c.tokens) >= c.limit {
		for any := range c.tokens { // map order is random enough
			delete(c.tokens, any)
			break
		}
	}
	c.tokens[id] = v
}

func (c *cache) flush() {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.tokens)
	c.epoch++
}
