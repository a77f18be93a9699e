package main

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/seed-64e334f9/notification-gateway/auth"
	"github.com/seed-64e334f9/notification-gateway/gateway"
)

const (
	canaryLife  = time.Minute // how long a pass counts
	canaryStart = "canary"    // the first part of a pass, which has the form of a JWT
)

// canaryKey signs the passes by which gateway check --canary opens a stream. A pass
// opens a stream for a recipient that is nobody's. It is derived from the session
// key, which the run-time role alone gets, and that role may read all notifications
// anyway: so a pass gives no right to anybody who has not more.
type canaryKey struct{ key atomic.Pointer[[]byte] }

// set derives the key from the session key. An empty one keeps what is known.
func (k *canaryKey) set(session []byte) {
	if len(session) == 0 {
		return
	}
	h := hmac.New(sha256.New, session)
	h.Write([]byte("notification-gateway canary"))
	key := h.Sum(nil)
	k.key.Store(&key)
}

// pass makes a pass for a canary, 32 hexadecimal digits.
func (k *canaryKey) pass(canary string, now time.Time) string {
	body := canaryStart + "." + canary + "-" + strconv.FormatInt(now.Add(canaryLife).Unix(), 10)
	return body + "." + k.sign(body)
}

// read returns the canary that a pass is for. Nothing is a pass before set.
func (k *canaryKey) read(pass string, now time.Time) (canary string, ok bool) {
	body, signature, ok := cutLast(pass, ".")
	if !ok || !strings.HasPrefix(body, canaryStart+".") || k.key.Load() == nil || !hmac.Equal([]byte(signature), []byte(k.sign(body))) {
		return "", false
	}
	canary, end, _ := strings.Cut(strings.TrimPrefix(body, canaryStart+"."), "-")
	until, err := strconv.ParseInt(end, 10, 64)
	return canary, err == nil && now.Unix() < until && until <= now.Add(2*canaryLife).Unix()
}

func (k *canaryKey) sign(body string) string {
	h := hmac.New(sha256.New, *k.key.Load())
	h.Write([]byte(body))
	return base64.RawURLEncoding.EncodeToString(h.Sum(nil))
}

func cutLast(text, separator string) (before, after string, found bool) {
	i := strings.LastIndex(text, separator)
	if i < 0 {
		return text, "", false
	}
	return text[:i], text[i+len(separator):], true
}

// canaryVerifier takes passes beside tokens, so that a canary can be sent where only
// the CRM or an issuer elsewhere makes tokens.
type canaryVerifier struct {
	gateway.Verifier
	canaries *canaryKey
}

func (v canaryVerifier) Verify(ctx context.Context, token string) (auth.Identity, error) {
	if now := time.Now(); strings.HasPrefix(token, canaryStart+".") {
		if _, ok := v.canaries.read(token, now); ok {
			until := now.Add(canaryLife)
			return auth.Identity{Subject: token, Expires: until, GoodUntil: until}, nil
		}
	}
	return v.Verifier.Verify(ctx, token)
}
