package auth

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"strings"
	"testing"

	"github.com/lestrrat-go/jwx/v2/jwa"
	"github.com/lestrrat-go/jwx/v2/jwk"
)

func publicPEM(t testing.TB, key any) string {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
}

// Many issuers hand out a PEM file and have no key server.
func TestKeysOfAFile(t *testing.T) {
	ec := newKey(t)
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	edPublic, edPrivate, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1)}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, &rsaKey.PublicKey, rsaKey)
	if err != nil {
		t.Fatal(err)
	}
	set := jwk.NewSet()
	if err := set.AddKey(public(t, ec, "one")); err != nil {
		t.Fatal(err)
	}
	jwks, err := json.Marshal(set)
	if err != nil {
		t.Fatal(err)
	}
	single, err := json.Marshal(public(t, ec, "one"))
	if err != nil {
		t.Fatal(err)
	}
	ecPEM, edPEM := publicPEM(t, &ec.PublicKey), publicPEM(t, edPublic)
	for name, c := range map[string]struct {
		content string
		alg     jwa.SignatureAlgorithm
		key     any
	}{
		"JWK Set": {string(jwks), jwa.ES256, ec}, "JWK": {string(single), jwa.ES256, ec}, "PEM": {ecPEM, jwa.ES256, ec},
		"second PEM":  {"the issuer's keys\n" + ecPEM + "\n" + edPEM, jwa.EdDSA, edPrivate},
		"PKCS #1":     {string(pem.EncodeToMemory(&pem.Block{Type: "RSA PUBLIC KEY", Bytes: x509.MarshalPKCS1PublicKey(&rsaKey.PublicKey)})), jwa.RS256, rsaKey},
		"certificate": {string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate})), jwa.PS512, rsaKey},
	} {
		v := verifier(t, Config{Keys: []byte(c.content)})
		for _, header := range []map[string]any{{"kid": "one"}, nil} { // PEM has no key ID: a token's proves nothing
			if _, err := v.Verify(t.Context(), sign(t, c.alg, c.key, header, `{"user_id":5}`)); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		if _, err := v.Verify(t.Context(), sign(t, jwa.ES256, newKey(t), map[string]any{"kid": "one"}, `{"user_id":5}`)); err == nil {
			t.Errorf("%s: somebody else's key was accepted", name)
		}
		if _, err := v.Verify(t.Context(), sign(t, jwa.HS256, []byte(c.content), nil, `{"user_id":5}`)); reasonOf(err) != reasonAlgorithm {
			t.Errorf("%s: the file as a shared secret: %v", name, err)
		}
	}
}

// A file that cannot be used must be told and change nothing: half a key would
// lock everybody out.
func TestBadKeysOfAFile(t *testing.T) {
	one, two := newKey(t), newKey(t)
	v := verifier(t, Config{Keys: []byte(publicPEM(t, &one.PublicKey))})
	token := sign(t, jwa.ES256, one, nil, `{"user_id":5}`)
	private, err := x509.MarshalPKCS8PrivateKey(two)
	if err != nil {
		t.Fatal(err)
	}
	weak, err := rsa.GenerateKey(rand.Reader, 1024) // that is the case
	if err != nil {
		t.Fatal(err)
	}
	p224, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	other := publicPEM(t, &two.PublicKey)
	for name, content := range map[string]string{
		"empty": "", "text": "hello", "HTML": "<html>", "no keys": `{"keys":[]}`, "a secret's JWK": `{"kty":"oct","k":"AAAA"}`,
		"half written": other[:len(other)/2], "the second half written": other + other[:len(other)/2], "no base64": "-----BEGIN PUBLIC KEY-----\n!!\n-----END PUBLIC KEY-----\n",
		"private": string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})), "short": publicPEM(t, &weak.PublicKey), "P-224": publicPEM(t, &p224.PublicKey),
		"a request": string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: []byte{0x30, 0}})),
	} {
		err := v.SetKeys([]byte(content))
		if err == nil || len(content) > 20 && strings.Contains(err.Error(), content[:20]) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := v.Verify(t.Context(), token); err != nil {
			t.Errorf("after %s: %v", name, err)
		}
	}
	if err := v.SetKeys([]byte(other)); err != nil {
		t.Fatal(err)
	}
	if _, err := v.Verify(t.Context(), token); reasonOf(err) != reasonSignature {
		t.Errorf("a token of the removed key: %v", err)
	}
	if _, err := v.Verify(t.Context(), sign(t, jwa.ES256, two, nil, `{"user_id":5}`)); err != nil {
		t.Errorf("a token of the new key: %v", err)
	}
	if err := verifier(t, Config{Secrets: [][]byte{secretOne}}).SetKeys([]byte(other)); err == nil {
		t.Error("a file of keys came while the process runs")
	}
}

// A file beside a key server: a token of either is good, and a key without an ID
// in the file does not keep a new key of the server out.
func TestKeysOfAFileBesideAKeyServer(t *testing.T) {
	one, two, three := newKey(t), newKey(t), newKey(t)
	server := newKeyServer(t, public(t, two, "two"))
	v := verifier(t, Config{Keys: []byte(publicPEM(t, &one.PublicKey)), KeySetURL: server.URL})
	good := func(key any, id string) {
		t.Helper()
		if _, err := v.Verify(t.Context(), sign(t, jwa.ES256, key, map[string]any{"kid": id}, `{"user_id":5}`)); err != nil {
			t.Errorf("%s: %v", id, err)
		}
	}
	good(one, "of the file")
	if n := server.asked.Load(); n != 0 {
		t.Errorf("the key server was asked %d times for a key of the file", n)
	}
	good(two, "two")
	server.set(t, public(t, two, "two"), public(t, three, "three"))
	good(three, "three")
	good(one, "of the file")
}
