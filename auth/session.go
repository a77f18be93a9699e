package auth

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"net/http"
	"time"
)

// SessionCookie is the name of the gateway's own session. It says that the CRM
// named a subject for certain credentials a short while ago, so that clients that
// reconnect all at once do not all make the CRM be asked.
const SessionCookie = "notifications_session"

// SessionLife is how long a session counts. It is not renewed: after it the CRM is
// asked again.
const SessionLife = 5 * time.Minute

const (
	sessionVersion = 1
	sessionSkew    = 30 * time.Second // how far the clocks of two replicas may differ
	sessionHash    = 16               // bytes kept of each hash
	sessionHead    = 1 + 8 + sessionHash
)

// sessionKeys sign sessions and hash the credentials in them.
type sessionKeys struct{ sign, hash []byte }

// SetSessionKey gives the key that all replicas share. Without one, and with an
// empty one, no sessions are made or believed.
func (c *CRM) SetSessionKey(key []byte) {
	if len(key) < minSecretBytes {
		c.keys.Store(nil)
		return
	}
	derive := func(purpose string) []byte {
		h := hmac.New(sha256.New, key)
		h.Write([]byte("notification-gateway session " + purpose))
		return h.Sum(nil)
	}
	c.keys.Store(&sessionKeys{sign: derive("signature"), hash: derive("credentials")})
}

// Session returns the cookie for an answer of the CRM: version, time, hash of the
// credentials, subject and signature. It is nil while there is no key, and when
// the answer is too old for a session.
func (c *CRM) Session(a Answer, credentials *Credentials) *http.Cookie {
	keys := c.keys.Load()
	left := SessionLife - time.Since(a.At)
	if keys == nil || left < time.Second {
		return nil
	}
	sum := credentials.sum(keys.hash)
	b := []byte{sessionVersion}
	b = binary.BigEndian.AppendUint64(b, uint64(a.At.UnixMilli()))
	b = append(b, sum[:sessionHash]...)
	b = append(b, a.Identity.Subject...)
	b = append(b, keys.signature(b)...)
	return &http.Cookie{Name: SessionCookie, Value: base64.RawURLEncoding.EncodeToString(b), MaxAge: int(left.Seconds())}
}

// readSession returns the answer that a request's session stands for. A session
// that is expired, forged, of another time's key or of other credentials is not an
// error: the CRM is asked then.
func (c *CRM) readSession(r *http.Request, credentials *Credentials, now time.Time) (Answer, bool) {
	keys := c.keys.Load()
	if keys == nil {
		return Answer{}, false
	}
	for _, cookie := range r.CookiesNamed(SessionCookie) {
		b, err := base64.RawURLEncoding.Strict().DecodeString(cookie.Value)
		if err != nil || len(b) <= sessionHead+sessionHash || b[0] != sessionVersion {
			continue
		}
		body, signature := b[:len(b)-sessionHash], b[len(b)-sessionHash:]
		if !hmac.Equal(signature, keys.signature(body)) {
			continue
		}
		at := time.UnixMilli(int64(binary.BigEndian.Uint64(body[1:9])))
		sum := credentials.sum(keys.hash)
		if age := now.Sub(at); age < -sessionSkew || age >= SessionLife || !hmac.Equal(body[9:sessionHead], sum[:sessionHash]) {
			continue
		}
		return Answer{Identity: Identity{Subject: string(body[sessionHead:])}, At: at, Source: FromSession}, true
	}
	return Answer{}, false
}

func (k *sessionKeys) signature(body []byte) []byte {
	h := hmac.New(sha256.New, k.sign)
	h.Write(body)
	return h.Sum(nil)[:sessionHash]
}
