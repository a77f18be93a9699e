package report

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"runtime"
	"sync"
	"time"
)

const (
	keyBits = 2048
	keyID   = "bench"
)

// issuer signs tokens with a key of its own (RS256) and serves the key set by
// which they are verified, as an identity provider does.
type issuer struct {
	key    *rsa.PrivateKey
	url    string // of the key set
	server *http.Server
}

func startIssuer() (*issuer, error) {
	key, err := rsa.GenerateKey(rand.Reader, keyBits)
	if err != nil {
		return nil, fmt.Errorf("make a key: %w", err)
	}
	// RFC 7517, section 4, and RFC 7518, section 6.3.1.
	text := base64.RawURLEncoding.EncodeToString
	set, err := json.Marshal(map[string]any{"keys": []map[string]string{{
		"kty": "RSA", "kid": keyID, "use": "sig", "alg": "RS256",
		"n": text(key.N.Bytes()), "e": text(big.NewInt(int64(key.E)).Bytes()),
	}}})
	if err != nil {
		return nil, fmt.Errorf("encode the key set: %w", err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("serve the key set: %w", err)
	}
	i := &issuer{key: key, url: "http://" + listener.Addr().String() + "/", server: &http.Server{
		ReadHeaderTimeout: time.Second,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/jwk-set+json")
			_, _ = w.Write(set) // a client that is gone needs no answer
		}),
	}}
	go i.server.Serve(listener) // it ends with stop
	return i, nil
}

func (i *issuer) stop() { i.server.Close() } // nothing is owed to its clients

// tokens signs one for each of the users first and up.
func (i *issuer) tokens(first, users int) ([]string, error) {
	out := make([]string, users)
	failed := make([]error, runtime.GOMAXPROCS(0))
	var signing sync.WaitGroup
	for worker := range failed {
		signing.Go(func() {
			for n := worker; n < users && failed[worker] == nil; n += len(failed) {
				c, err := claims(first + n)
				if err == nil {
					out[n], err = i.sign(c)
				}
				failed[worker] = err
			}
		})
	}
	signing.Wait()
	for _, err := range failed {
		if err != nil {
			return nil, fmt.Errorf("sign a token: %w", err)
		}
	}
	return out, nil
}

// sign makes a JWS in compact form (RFC 7515, section 7.1).
func (i *issuer) sign(claims map[string]any) (string, error) {
	payload, err := json.Marshal(claims)
	if err != nil {
		return "", err
	}
	text := base64.RawURLEncoding.EncodeToString
	signed := text([]byte(`{"alg":"RS256","typ":"JWT","kid":"`+keyID+`"}`)) + "." + text(payload)
	digest := sha256.Sum256([]byte(signed))
	signature, err := rsa.SignPKCS1v15(nil, i.key, crypto.SHA256, digest[:])
	return signed + "." + text(signature), err
}
