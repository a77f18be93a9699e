package auth

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"slices"
	"strings"

	"github.com/lestrrat-go/jwx/v2/jwa"
	"github.com/lestrrat-go/jwx/v2/jwk"
)

// key is a public key and the algorithms that it may verify.
type key struct {
	id         string
	algorithms []jwa.SignatureAlgorithm
	public     any
}

// mayVerify reports whether k may have signed a token with this algorithm and
// key ID (RFC 7515 section 4.1.4). A key without an ID, as PEM has none, may have
// signed any; so may any key a token without one.
func (k key) mayVerify(alg jwa.SignatureAlgorithm, id string) bool {
	return slices.Contains(k.algorithms, alg) && (id == "" || k.id == "" || k.id == id)
}

func matching(keys []key, alg jwa.SignatureAlgorithm, id string) (out []key) {
	for _, k := range keys {
		if k.mayVerify(alg, id) {
			out = append(out, k)
		}
	}
	return out
}

// parseKeys reads a JWK Set, a JWK or PEM public keys.
func parseKeys(content []byte) ([]key, error) {
	if strings.Contains(string(content), "-----BEGIN") {
		return parsePEM(content)
	}
	keys, _, err := parseKeySet(content)
	return keys, err
}

// parseKeySet reads a JWK Set or one JWK. A key of an unknown kind is left out
// and does not take the others away (RFC 7517 section 5).
func parseKeySet(content []byte) (keys []key, leftOut int, err error) {
	var set struct {
		Keys []json.RawMessage `json:"keys"`
		Type string            `json:"kty"`
	}
	if json.Unmarshal(content, &set) != nil || set.Keys == nil && set.Type == "" {
		return nil, 0, errors.New("it is no JWK Set")
	}
	if set.Keys == nil {
		set.Keys = []json.RawMessage{content}
	}
	for _, text := range set.Keys {
		k, err := jwk.ParseKey(text)
		usable, ok := key{}, false
		if err == nil {
			usable, ok = publicKey(k)
		}
		if !ok {
			leftOut++
			continue
		}
		keys = append(keys, usable)
	}
	if len(keys) == 0 {
		return nil, leftOut, errors.New("the JWK Set has no usable signature key")
	}
	return keys, leftOut, nil
}

// parsePEM reads public keys and certificates (RFC 7468). It refuses the whole
// when a part cannot be used: a file that was written by hand is wrong then, or
// not written to its end.
func parsePEM(content []byte) ([]key, error) {
	var keys []key
	begun := strings.Count(string(content), "-----BEGIN")
	for rest := content; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		public, err := parseBlock(block)
		if err != nil {
			return nil, err
		}
		algorithms := algorithmsOf(public)
		if algorithms == nil {
			return nil, errors.New("a PEM key cannot be used: it must be RSA with at least 2048 bits, P-256, P-384, P-521 or Ed25519")
		}
		keys = append(keys, key{algorithms: algorithms, public: public})
	}
	if len(keys) != begun {
		return nil, errors.New("a PEM block cannot be read, or is not complete")
	}
	return keys, nil
}

func parseBlock(block *pem.Block) (public any, err error) {
	switch block.Type {
	case "PUBLIC KEY":
		public, err = x509.ParsePKIXPublicKey(block.Bytes)
	case "RSA PUBLIC KEY":
		public, err = x509.ParsePKCS1PublicKey(block.Bytes)
	case "CERTIFICATE":
		var c *x509.Certificate
		if c, err = x509.ParseCertificate(block.Bytes); err == nil {
			public = c.PublicKey
		}
	default:
		if strings.HasSuffix(block.Type, "PRIVATE KEY") {
			return nil, errors.New("a PEM block is a private key: give its public key alone")
		}
		return nil, errors.New("a PEM block is neither a public key nor a certificate")
	}
	if err != nil { // its text quotes the key
		return nil, errors.New("a PEM block holds no key of a known kind")
	}
	return public, nil
}

// algorithmsOf returns the algorithms that a public key may verify; nil is none.
func algorithmsOf(public any) []jwa.SignatureAlgorithm {
	switch p := public.(type) {
	case *rsa.PublicKey:
		if p.N.BitLen() >= minRSABits {
			return []jwa.SignatureAlgorithm{jwa.RS256, jwa.RS384, jwa.RS512, jwa.PS256, jwa.PS384, jwa.PS512}
		}
	case *ecdsa.PublicKey:
		switch p.Curve { // RFC 7518 section 3.4
		case elliptic.P256():
			return []jwa.SignatureAlgorithm{jwa.ES256}
		case elliptic.P384():
			return []jwa.SignatureAlgorithm{jwa.ES384}
		case elliptic.P521():
			return []jwa.SignatureAlgorithm{jwa.ES512}
		}
	case ed25519.PublicKey:
		return []jwa.SignatureAlgorithm{jwa.EdDSA}
	}
	return nil
}

// publicKey takes over an asymmetric signature key. Everything else is left out,
// above all a symmetric key, which would admit HMAC.
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
	if out.algorithms = algorithmsOf(out.public); out.algorithms == nil {
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
