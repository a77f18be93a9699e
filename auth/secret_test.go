package auth

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"strings"
	"testing"
)

const (
	plainOne = "the_first_secret_with_32_bytes_of_it"
	plainTwo = "the_other_secret_with_32_bytes_of_it"
)

// A public key that is taken for a shared secret lets everybody who has it sign
// tokens. It must be refused in every form in which keys are handed on.
func TestKeysAreNoSecrets(t *testing.T) {
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	ecKey := newKey(t)
	edPublic, edPrivate, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1)}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, &rsaKey.PublicKey, rsaKey)
	if err != nil {
		t.Fatal(err)
	}
	ders := map[string][]byte{"CERTIFICATE": certificate, "RSA PUBLIC KEY": x509.MarshalPKCS1PublicKey(&rsaKey.PublicKey), "RSA PRIVATE KEY": x509.MarshalPKCS1PrivateKey(rsaKey)}
	for name, key := range map[string]any{"PUBLIC KEY": &rsaKey.PublicKey, "PUBLIC KEY EC": &ecKey.PublicKey, "PUBLIC KEY ED": edPublic} {
		if ders[name], err = x509.MarshalPKIXPublicKey(key); err != nil {
			t.Fatal(err)
		}
	}
	for name, key := range map[string]any{"PRIVATE KEY EC": ecKey, "PRIVATE KEY ED": edPrivate} {
		if ders[name], err = x509.MarshalPKCS8PrivateKey(key); err != nil {
			t.Fatal(err)
		}
	}
	if ders["EC PRIVATE KEY"], err = x509.MarshalECPrivateKey(ecKey); err != nil {
		t.Fatal(err)
	}
	keys := map[string]string{}
	for name, der := range ders {
		text := string(pem.EncodeToMemory(&pem.Block{Type: strings.TrimSuffix(strings.TrimSuffix(name, " EC"), " ED"), Bytes: der}))
		keys["PEM "+name] = text
		keys["PEM of CRLF, "+name] = strings.ReplaceAll(text, "\n", "\r\n")
		keys["PEM on one line, "+name] = strings.ReplaceAll(text, "\n", `\n`)
		keys["PEM in base64, "+name] = base64.StdEncoding.EncodeToString([]byte(text))
		keys["DER in base64, "+name] = base64.StdEncoding.EncodeToString(der)
		keys["DER in base64url, "+name] = base64.RawURLEncoding.EncodeToString(der)
		keys["DER in hexadecimal, "+name] = hex.EncodeToString(der)
		keys["DER, "+name] = string(der)
		_, body, _ := strings.Cut(text, "\n")
		body, _, _ = strings.Cut(body, "-----")
		keys["PEM without its frame, "+name] = body
	}
	jwkText, err := json.Marshal(public(t, ecKey, "one"))
	if err != nil {
		t.Fatal(err)
	}
	keys["JWK"] = string(jwkText)
	keys["JWK, escaped"] = strings.ReplaceAll(string(jwkText), `"`, `\"`)
	keys["JWK in base64url"] = base64.RawURLEncoding.EncodeToString(jwkText)
	keys["JWK in YAML"] = "kty: RSA\nn: " + strings.Repeat("x", 40)
	keys["JWK Set"] = `{"keys":[` + string(jwkText) + `]}`
	keys["empty JWK Set"] = `{ "keys" : [                               ] }`
	keys["indented JWK"] = "{\n  \"crv\": \"P-256\",\n  \"kty\" : \"EC\",\n  \"x\": \"AA\"\n}"
	blob := func(kind string) string {
		b := binary.BigEndian.AppendUint32(nil, uint32(len(kind)))
		b = append(append(b, kind...), 0, 0, 0, 32)
		return base64.StdEncoding.EncodeToString(append(b, edPublic...))
	}
	for _, kind := range []string{"ssh-rsa", "ssh-ed25519", "ssh-dss", "ecdsa-sha2-nistp256", "sk-ssh-ed25519@openssh.com", "ssh-rsa-cert-v01@openssh.com"} {
		keys[kind] = kind + " " + blob(kind) + " somebody@somewhere"
		keys[kind+" with options"] = `no-pty ` + keys[kind]
		keys[kind+" without its type"] = blob(kind)
	}
	keys["SSH2"] = "---- BEGIN SSH2 PUBLIC KEY ----\nComment: x\n" + blob("ssh-rsa")
	keys["PGP"] = "-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nmDMEY"
	keys["key set's URL"] = "https://issuer.example.com/.well-known/jwks.json"
	for name, key := range keys {
		for place, text := range map[string]string{"": key, " in quotes": `"` + key + `"`, " after a secret": plainOne + "," + key, " after a BOM": "\ufeff" + key} {
			if place != "" && strings.HasPrefix(name, "DER, ") {
				continue // raw bytes are a file's whole content
			}
			secrets, err := ParseSecrets(text)
			if err == nil {
				t.Errorf("%s%s was taken for %d secrets", name, place, len(secrets))
			} else if len(key) > 20 && strings.Contains(err.Error(), key[:20]) {
				t.Errorf("%s%s: the error shows it: %v", name, place, err)
			}
		}
	}
}

// Secrets as people make them must go on being taken.
func TestSecretsAreSecrets(t *testing.T) {
	for name, text := range map[string]string{
		"words": "a secret of the tests with 32 bytes and more", "Django's": "django-insecure-x#2=(k!&v^%3h+o$kty@0)p_5m*keys-ssh1",
		"base64": base64.StdEncoding.EncodeToString(make([]byte, 48)), "hexadecimal": hex.EncodeToString(make([]byte, 32)),
		"quotes inside": `he said "hello" and "good-bye" to us`, "a comma at the end": plainOne + ",", "spaces": "  " + plainOne + " ,\n" + plainTwo + "\n",
		"bytes": "\x00\xff\n" + strings.Repeat("\xfe", 40),
	} {
		if secrets, err := ParseSecrets(text); err != nil || len(secrets) == 0 {
			t.Errorf("%s: %d, %v", name, len(secrets), err)
		}
	}
	random := make([]byte, 32)
	for range 1000 {
		if _, err := rand.Read(random); err != nil {
			t.Fatal(err)
		}
		if _, err := ParseSecrets(base64.StdEncoding.EncodeToString(random)); err != nil {
			t.Fatalf("%x: %v", random, err)
		}
	}
}

// What an editor, a template or a shell adds to a secret makes it another one:
// every token would be refused, and nothing would say why.
func TestSpoiltSecretsAreTold(t *testing.T) {
	one, two := plainOne, plainTwo
	for text, want := range map[string]string{
		"\ufeff" + one: "byte order mark", "\xff\xfea\x00": "byte order mark",
		`"` + one + `"`: "quotes", `'` + one + `'`: "quotes", one + `,"` + two + `"`: "quotes", `"` + one + "," + two + `"`: "quotes",
		one + "\n" + two: "line end", one + "\r\n" + two + "\r\n": "line end", one + ",short": "at least 32 bytes",
	} {
		if _, err := ParseSecrets(text); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "bytes_of_it") {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}
