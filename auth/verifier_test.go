package auth

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lestrrat-go/jwx/v2/jwa"
	"github.com/lestrrat-go/jwx/v2/jwk"
	"github.com/lestrrat-go/jwx/v2/jws"
)

var (
	secretOne = []byte("the first secret, 32 bytes long!")
	secretTwo = []byte("the other secret, 32 bytes long!")
)

// keyServer serves a key set that a test may change.
type keyServer struct {
	*httptest.Server
	body  atomic.Pointer[string]
	asked atomic.Int32
	fails atomic.Bool
}

func newKeyServer(t testing.TB, keys ...jwk.Key) *keyServer {
	s := &keyServer{}
	s.set(t, keys...)
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		s.asked.Add(1)
		if s.fails.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		w.Write([]byte(*s.body.Load()))
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *keyServer) set(t testing.TB, keys ...jwk.Key) {
	set := jwk.NewSet()
	for _, k := range keys {
		if err := set.AddKey(k); err != nil {
			t.Fatal(err)
		}
	}
	b, err := json.Marshal(set)
	if err != nil {
		t.Fatal(err)
	}
	text := string(b)
	s.body.Store(&text)
}

func public(t testing.TB, private any, id string) jwk.Key {
	t.Helper()
	k, err := jwk.FromRaw(private)
	if err != nil {
		t.Fatal(err)
	}
	if _, symmetric := private.([]byte); !symmetric {
		if k, err = k.PublicKey(); err != nil {
			t.Fatal(err)
		}
	}
	if err := k.Set(jwk.KeyIDKey, id); err != nil {
		t.Fatal(err)
	}
	return k
}

func verifier(t testing.TB, c Config) *Verifier {
	t.Helper()
	if c.UserClaim == "" {
		c.UserClaim = "user_id"
	}
	c.Logger, c.AllowNoExpiry = slog.New(slog.DiscardHandler), true
	v, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// sign makes a token by the library, with header members of the test's choice.
func sign(t testing.TB, alg jwa.SignatureAlgorithm, key any, header map[string]any, payload string) string {
	t.Helper()
	h := jws.NewHeaders()
	for name, value := range header {
		if err := h.Set(name, value); err != nil {
			t.Fatal(err)
		}
	}
	b, err := jws.Sign([]byte(payload), jws.WithKey(alg, key, jws.WithProtectedHeaders(h)))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// respell gives another base64url character that only differs in the bits that
// a 32-byte signature leaves unused.
func respell(last byte) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	return string(alphabet[strings.IndexByte(alphabet, last)^1])
}

func encode(text string) string { return base64.RawURLEncoding.EncodeToString([]byte(text)) }

// Every algorithm of the contract, both kinds of key at once.
func TestEveryAlgorithm(t *testing.T) {
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	keys := map[jwa.SignatureAlgorithm]crypto.PrivateKey{}
	for _, alg := range []jwa.SignatureAlgorithm{jwa.RS256, jwa.RS384, jwa.RS512, jwa.PS256, jwa.PS384, jwa.PS512} {
		keys[alg] = rsaKey
	}
	for alg, curve := range map[jwa.SignatureAlgorithm]elliptic.Curve{jwa.ES256: elliptic.P256(), jwa.ES384: elliptic.P384(), jwa.ES512: elliptic.P521()} {
		if keys[alg], err = ecdsa.GenerateKey(curve, rand.Reader); err != nil {
			t.Fatal(err)
		}
	}
	if _, keys[jwa.EdDSA], err = ed25519.GenerateKey(rand.Reader); err != nil {
		t.Fatal(err)
	}
	set := []jwk.Key{public(t, rsaKey, "rsa")}
	for _, alg := range []jwa.SignatureAlgorithm{jwa.ES256, jwa.ES384, jwa.ES512, jwa.EdDSA} {
		set = append(set, public(t, keys[alg], string(alg)))
	}
	v := verifier(t, Config{Secrets: [][]byte{secretTwo, secretOne}, KeySetURL: newKeyServer(t, set...).URL})
	for alg, key := range keys {
		if id, err := v.Verify(t.Context(), sign(t, alg, key, nil, `{"user_id":5}`)); err != nil || id.Subject != "5" {
			t.Errorf("%s: %+v, %v", alg, id, err)
		}
	}
	for _, alg := range []jwa.SignatureAlgorithm{jwa.HS256, jwa.HS384, jwa.HS512} {
		for _, secret := range [][]byte{secretOne, secretTwo} { // both are good while they rotate
			if id, err := v.Verify(t.Context(), sign(t, alg, secret, nil, `{"user_id":"u-5"}`)); err != nil || id.Subject != "u-5" {
				t.Errorf("%s: %+v, %v", alg, id, err)
			}
		}
	}
}

// What an attacker would send.
func TestHostileTokens(t *testing.T) {
	good, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	evil, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(&good.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	published := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	oct := []byte("a symmetric key, by mistake in the set")
	server := newKeyServer(t, public(t, good, "good"), public(t, oct, "oct"))
	v := verifier(t, Config{Secrets: [][]byte{secretOne}, KeySetURL: server.URL, Issuer: "crm", Audience: "gateway", Leeway: 30 * time.Second})
	now := time.Now().Unix()
	const body = `{"user_id":5,"iss":"crm","aud":["x","gateway"]`
	hs := func(payload string) string { return sign(t, jwa.HS256, secretOne, nil, payload) }
	evilJWK := public(t, evil, "evil")
	valid := hs(body + `}`)
	parts := strings.Split(valid, ".")
	for _, c := range []struct{ name, token, reason string }{
		{"good", valid, ""},
		{"good, RSA", sign(t, jwa.RS256, good, map[string]any{"kid": "good"}, body+`}`), ""},
		{"one audience", hs(`{"user_id":5,"iss":"crm","aud":"gateway"}`), ""},
		{"access", hs(body + `,"token_type":"access"}`), ""},
		{"just expired, within the leeway", hs(fmt.Sprintf(`%s,"exp":%d}`, body, now-10)), ""},
		{"none", encode(`{"alg":"none"}`) + "." + encode(body+"}") + ".", "unsupported_algorithm"},
		{"None", encode(`{"alg":"None"}`) + "." + encode(body+"}") + ".", "unsupported_algorithm"},
		{"no alg", encode(`{}`) + "." + parts[1] + "." + parts[2], "unsupported_algorithm"},
		{"alg a number", encode(`{"alg":256}`) + "." + parts[1] + "." + parts[2], "unsupported_algorithm"},
		{"public key as secret", sign(t, jwa.HS256, published, nil, body+`}`), "bad_signature"},
		{"symmetric key of the set", sign(t, jwa.HS256, oct, map[string]any{"kid": "oct"}, body+`}`), "bad_signature"},
		{"embedded jwk", sign(t, jwa.RS256, evil, map[string]any{"jwk": evilJWK}, body+`}`), "bad_signature"},
		{"jku", sign(t, jwa.RS256, evil, map[string]any{"jku": server.URL, "kid": "good"}, body+`}`), "bad_signature"},
		{"x5u", sign(t, jwa.RS256, evil, map[string]any{"x5u": server.URL}, body+`}`), "bad_signature"},
		{"kid traversal", sign(t, jwa.RS256, evil, map[string]any{"kid": "../../../dev/null"}, body+`}`), "unknown_key"},
		{"kid injection", sign(t, jwa.RS256, evil, map[string]any{"kid": "' OR 1=1 --"}, body+`}`), "unknown_key"},
		{"kid a number", encode(`{"alg":"HS256","kid":1}`) + "." + parts[1] + "." + parts[2], "malformed"},
		{"crit", encode(`{"alg":"HS256","crit":["exp"]}`) + "." + parts[1] + "." + parts[2], "malformed"},
		{"other alg than signed", encode(`{"alg":"HS512"}`) + "." + parts[1] + "." + parts[2], "bad_signature"},
		{"ES256 with an RSA key", encode(`{"alg":"ES256","kid":"good"}`) + "." + parts[1] + "." + parts[2], "unknown_key"},
		{"header twice", encode(`{"alg":"none","alg":"HS256"}`) + "." + parts[1] + "." + parts[2], "malformed"},
		{"claim twice", hs(`{"user_id":7,"iss":"crm","aud":"gateway","user_id":5}`), "malformed"},
		{"expired", hs(fmt.Sprintf(`%s,"exp":%d}`, body, now-60)), "expired"},
		{"exp a text", hs(body + `,"exp":"never"}`), "malformed"},
		{"exp huge", hs(body + `,"exp":1e300}`), "malformed"},
		{"exp null", hs(body + `,"exp":null}`), "malformed"},
		{"early", hs(fmt.Sprintf(`%s,"nbf":%d}`, body, now+60)), "not_yet_valid"},
		{"issued tomorrow", hs(fmt.Sprintf(`%s,"iat":%d}`, body, now+86400)), "not_yet_valid"},
		{"other issuer", hs(`{"user_id":5,"iss":"evil","aud":"gateway"}`), "wrong_issuer"},
		{"issuer a list", hs(`{"user_id":5,"iss":["crm"],"aud":"gateway"}`), "wrong_issuer"},
		{"no issuer", hs(`{"user_id":5,"aud":"gateway"}`), "wrong_issuer"},
		{"other audience", hs(`{"user_id":5,"iss":"crm","aud":["x"]}`), "wrong_audience"},
		{"no audience", hs(`{"user_id":5,"iss":"crm"}`), "wrong_audience"},
		{"refresh", hs(body + `,"token_type":"refresh"}`), "wrong_token_type"},
		{"token_type null", hs(body + `,"token_type":null}`), "wrong_token_type"},
		{"no user", hs(`{"iss":"crm","aud":"gateway"}`), "bad_user_claim"},
		{"payload a list", hs(`[]`), "malformed"},
		{"something behind", hs(body + `} {}`), "malformed"},
		{"truncated", valid[:len(valid)-7], "bad_signature"},
		{"another spelling of the signature", valid[:len(valid)-1] + respell(valid[len(valid)-1]), "malformed"},
		{"a line end before it", "\r" + valid, "malformed"},
		{"a line end inside it", parts[0] + "." + parts[1] + "\n." + parts[2], "malformed"},
		{"no signature", parts[0] + "." + parts[1] + ".", "bad_signature"},
		{"two parts", parts[0] + "." + parts[1], "malformed"},
		{"five parts", valid + ".a.b", "malformed"},
		{"empty", "", "malformed"},
		{"dots", "..", "malformed"},
		{"header no JSON", "!!!." + parts[1] + "." + parts[2], "malformed"},
		{"too large", hs(body + `,"x":"` + strings.Repeat("x", 9000) + `"}`), "too_large"},
	} {
		for range 2 { // the second may come from the cache
			_, err := v.Verify(t.Context(), c.token)
			var refused *Error
			if c.reason == "" && err != nil || c.reason != "" && (!errors.As(err, &refused) || refused.Reason != c.reason) {
				t.Errorf("%s: %v, want %q", c.name, err, c.reason)
			}
			if err != nil && len(parts[1]) > 20 && strings.Contains(err.Error(), parts[1]) {
				t.Errorf("%s: the error shows the token: %v", c.name, err)
			}
		}
	}
}

// A user claim that loses digits or is made up from another type would name
// somebody else.
func TestUserClaim(t *testing.T) {
	v := verifier(t, Config{Secrets: [][]byte{secretOne}})
	for claim, want := range map[string]string{
		`5`: "5", `-5`: "-5", `-0`: "0", `9007199254740993`: "9007199254740993", `18446744073709551617`: "18446744073709551617",
		`"abc"`: "abc", `"5"`: "5", `"7f3a-b"`: "7f3a-b",
		`5.0`: "", `5e0`: "", `1e3`: "", `true`: "", `null`: "", `{}`: "", `[5]`: "", `""`: "", `"a\u0000b"`: "", `"a\nb"`: "",
		`"` + strings.Repeat("x", 256) + `"`: "", strings.Repeat("9", 41): "",
	} {
		id, err := v.Verify(t.Context(), sign(t, jwa.HS256, secretOne, nil, `{"user_id":`+claim+`}`))
		if (err == nil) != (want != "") || id.Subject != want {
			t.Errorf("%.30s: %q, %v, want %q", claim, id.Subject, err, want)
		}
	}
}

// A token without exp in a URL, in a log or in a history would be good for ever.
func TestTokenWithoutExpiry(t *testing.T) {
	for allow, want := range map[bool]string{false: reasonNoExpiry, true: ""} {
		v, err := New(Config{Secrets: [][]byte{secretOne}, UserClaim: "user_id", AllowNoExpiry: allow})
		if err != nil {
			t.Fatal(err)
		}
		var refused *Error
		_, err = v.Verify(t.Context(), sign(t, jwa.HS256, secretOne, nil, `{"user_id":5}`))
		if want == "" && err != nil || want != "" && (!errors.As(err, &refused) || refused.Reason != want) {
			t.Errorf("allowed %t: %v, want %q", allow, err, want)
		}
		if _, err := v.Verify(t.Context(), sign(t, jwa.HS256, secretOne, nil, fmt.Sprintf(`{"user_id":5,"exp":%d}`, time.Now().Unix()+60))); err != nil {
			t.Errorf("allowed %t: with exp: %v", allow, err)
		}
	}
}

// A cached token must end with its exp, not live on.
func TestCachedTokenExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := verifier(t, Config{Secrets: [][]byte{secretOne}, Leeway: time.Second})
		token := sign(t, jwa.HS256, secretOne, nil, fmt.Sprintf(`{"user_id":5,"exp":%d}`, time.Now().Add(time.Minute).Unix()))
		if id, err := v.Verify(t.Context(), token); err != nil || !id.Expires.Equal(time.Now().Add(time.Minute)) {
			t.Fatalf("%+v, %v", id, err)
		}
		time.Sleep(62 * time.Second) // the bubble's clock
		if _, err := v.Verify(t.Context(), token); err == nil {
			t.Error("still accepted")
		}
	})
}

// A new key is found, a lost key server is survived, a withdrawn key is
// forgotten, and a flood of unknown key IDs does not become a flood of fetches.
func TestKeySetRotation(t *testing.T) {
	one, two := newKey(t), newKey(t)
	server := newKeyServer(t, public(t, one, "one"))
	v := verifier(t, Config{KeySetURL: server.URL})
	token := func(key any, id string) string {
		return sign(t, jwa.ES256, key, map[string]any{"kid": id}, `{"user_id":5}`)
	}
	if v.KeysReady() == nil {
		t.Error("ready before the key set was read")
	}
	old := token(one, "one")
	for range 2 { // the first reads the key set, the second is remembered
		if _, err := v.Verify(t.Context(), old); err != nil {
			t.Fatal(err)
		}
	}
	if v.KeysReady() != nil {
		t.Error("not ready after the key set was read")
	}
	for i := range 100 {
		if _, err := v.Verify(t.Context(), token(two, fmt.Sprint("unknown", i))); err == nil {
			t.Fatal("an unknown key was accepted")
		}
	}
	if n := server.asked.Load(); n != unknownKeyBurst {
		t.Errorf("the key server was asked %d times, want %d at once and then one in the interval", n, unknownKeyBurst)
	}
	server.set(t, public(t, two, "two"))
	if err := v.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := v.Verify(t.Context(), token(two, "two")); err != nil {
		t.Errorf("the new key: %v", err)
	}
	if _, err := v.Verify(t.Context(), old); err == nil {
		t.Error("a token of the withdrawn key came from the cache")
	}
	server.Close()
	if err := v.Refresh(t.Context()); err == nil {
		t.Error("a dead key server is no error")
	}
	if _, err := v.Verify(t.Context(), token(two, "two")); err != nil {
		t.Errorf("with the key server dead: %v", err)
	}
}

// Key servers that would fill the memory, hang or send us elsewhere.
func TestHostileKeyServers(t *testing.T) {
	target := newKeyServer(t, public(t, newKey(t), "one"))
	for name, handler := range map[string]http.HandlerFunc{
		"endless": func(w http.ResponseWriter, _ *http.Request) {
			for block := []byte(strings.Repeat(" ", 1<<16)); ; {
				if _, err := w.Write(block); err != nil {
					return
				}
			}
		},
		"elsewhere": func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, target.URL, http.StatusFound) },
		"no set":    func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html>") },
		"empty":     func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"keys":[]}`) },
		"refuses":   func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) },
	} {
		s := httptest.NewServer(handler)
		v := verifier(t, Config{KeySetURL: s.URL + "/secret-path"})
		err := v.Refresh(t.Context())
		if err == nil || strings.Contains(err.Error(), "secret-path") {
			t.Errorf("%s: %v", name, err)
		}
		token := sign(t, jwa.ES256, newKey(t), nil, `{"user_id":5}`)
		if _, err := v.Verify(t.Context(), token); !errors.Is(err, ErrUnavailable) {
			t.Errorf("%s: %v, want unavailable", name, err)
		}
		s.CloseClientConnections()
		s.Close()
	}
}

func TestMint(t *testing.T) {
	token, err := Mint(secretOne, maps.Collect(maps.All(map[string]any{"user_id": 5, "token_type": "access"})))
	if err != nil {
		t.Fatal(err)
	}
	if id, err := verifier(t, Config{Secrets: [][]byte{secretOne}}).Verify(context.Background(), token); err != nil || id.Subject != "5" {
		t.Errorf("%+v, %v", id, err)
	}
}

func TestNewRefuses(t *testing.T) {
	for name, c := range map[string]Config{
		"nothing": {UserClaim: "u"}, "short": {UserClaim: "u", Secrets: [][]byte{secretOne, []byte("short")}}, "no claim": {Secrets: [][]byte{secretOne}},
	} {
		if _, err := New(c); err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// FuzzVerify looks for a token that crashes the verifier or that it accepts
// though nobody signed it.
func FuzzVerify(f *testing.F) {
	v := verifier(f, Config{Secrets: [][]byte{secretOne}})
	valid := sign(f, jwa.HS256, secretOne, nil, `{"user_id":5}`)
	f.Add(valid)
	f.Add(encode(`{"alg":"none"}`) + "." + encode(`{"user_id":5}`) + ".")
	f.Add("..")
	f.Add("\r" + valid)
	f.Add(valid + "=")
	f.Fuzz(func(t *testing.T, token string) {
		if id, err := v.Verify(t.Context(), token); err == nil && token != valid {
			t.Errorf("%q was accepted for %q", token, id.Subject)
		}
	})
}
