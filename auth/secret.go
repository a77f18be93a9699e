package auth

import (
	"bytes"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"
)

// ParseSecrets reads shared secrets from one text, separated by commas. It
// refuses a text that is a key, because a public key is no secret: everybody who
// has it could sign tokens (RFC 8725 section 2.1). It also refuses a text that
// carries what an editor or a template added: with a byte order mark, quotes or
// line ends the secret is another one than the issuer's, and every token would
// be refused. Its errors never hold the text.
func ParseSecrets(text string) ([][]byte, error) {
	// The whole is judged first: a JWK has commas of its own.
	if kind := keyMaterial(text); kind != "" {
		return nil, errKeyMaterial(kind)
	}
	if strings.HasPrefix(text, "\ufeff") || strings.HasPrefix(text, "\xff\xfe") || strings.HasPrefix(text, "\xfe\xff") {
		return nil, errors.New("it begins with a byte order mark: save it without one, as UTF-8")
	}
	if isQuoted(strings.TrimSpace(text)) {
		return nil, errQuoted
	}
	var secrets [][]byte
	for secret := range strings.SplitSeq(text, ",") {
		if secret = strings.TrimSpace(secret); secret == "" {
			continue
		}
		secrets = append(secrets, []byte(secret))
	}
	return secrets, checkSecrets(secrets)
}

func checkSecrets(secrets [][]byte) error {
	for _, secret := range secrets {
		text := string(secret)
		switch kind := keyMaterial(text); {
		case kind != "":
			return errKeyMaterial(kind)
		case isQuoted(text):
			return errQuoted
		case utf8.ValidString(text) && strings.ContainsAny(text, "\r\n"): // else it is bytes, not text
			return errors.New("a secret has a line end inside: put several on one line, separated by commas")
		case len(text) < minSecretBytes:
			return fmt.Errorf("each secret must have at least %d bytes", minSecretBytes)
		}
	}
	return nil
}

var errQuoted = errors.New("a secret stands in quotes: leave them out")

func isQuoted(text string) bool {
	return len(text) >= 2 && (text[0] == '"' || text[0] == '\'') && text[len(text)-1] == text[0]
}

func errKeyMaterial(kind string) error {
	return fmt.Errorf("it is %s, not a shared secret: public keys belong in a key set", kind)
}

var (
	// pemLine is the first line of PEM (RFC 7468) and of an SSH2 public key
	// (RFC 4716 section 3.2), also where its hyphens or line ends were mangled.
	pemLine = regexp.MustCompile(`(?i)-{3,} ?BEGIN [A-Z0-9 ]*(KEY|CERTIFICATE|PARAMETERS|REQUEST)`)
	// jwkMember is a member of a JWK (RFC 7517 section 4.1) or JWK Set (section
	// 5), in JSON, also escaped, or in YAML.
	jwkMember = regexp.MustCompile(`(^|[^A-Za-z0-9_-])(kty["'\\]*\s*:|["'\\]+keys["'\\]+\s*:)`)
	// sshType is the first field of an SSH public key (RFC 4253 section 6.6).
	sshType = regexp.MustCompile(`^(sk-)?(ssh-(rsa|dss|ed25519|ed448)|ecdsa-sha2-[a-z0-9-]+)(-cert-v[0-9]+)?(@openssh\.com)?$`)
)

// keyMaterial says which kind of key, or of public text, a secret is; "" is
// none of them.
func keyMaterial(text string) string {
	if kind := keyText(text); kind != "" {
		return kind
	}
	for _, decoded := range decodings(text) {
		if kind := keyText(string(decoded)); kind != "" {
			return kind + " in base64"
		}
		if isDER(decoded) {
			return "a DER key or certificate"
		}
		// RFC 4253 section 6.6: a length of four bytes, then the key's type.
		if len(decoded) > 4 && bytes.HasPrefix(decoded, []byte{0, 0, 0}) && len(decoded) > 4+int(decoded[3]) && sshType.Match(decoded[4:4+int(decoded[3])]) {
			return "an SSH key"
		}
	}
	return ""
}

func keyText(text string) string {
	switch {
	case pemLine.MatchString(text):
		return "a PEM key or certificate"
	case jwkMember.MatchString(text):
		return "a JWK"
	case strings.HasPrefix(text, "PuTTY-User-Key-File-"):
		return "an SSH key"
	case strings.HasPrefix(text, "http://"), strings.HasPrefix(text, "https://"):
		return "a URL"
	}
	for _, field := range strings.Fields(text) {
		if sshType.MatchString(strings.Trim(field, `"',`)) {
			return "an SSH key"
		}
	}
	return ""
}

// decodings returns the bytes that a text may stand for: itself, base64 in both
// alphabets (RFC 4648 sections 4 and 5), with or without padding and line ends,
// and hexadecimal.
func decodings(text string) [][]byte {
	out := [][]byte{[]byte(text)}
	bare := strings.Map(func(c rune) rune {
		switch {
		case unicode.IsSpace(c), strings.ContainsRune("=\"'\ufeff", c):
			return -1
		case c == '-':
			return '+'
		case c == '_':
			return '/'
		}
		return c
	}, text)
	if decoded, err := base64.RawStdEncoding.DecodeString(bare); err == nil {
		out = append(out, decoded)
	}
	if decoded, err := hex.DecodeString(bare); err == nil {
		out = append(out, decoded)
	}
	return out
}

// isDER reports whether b is one DER value with the shape of a key or a
// certificate, also of an algorithm that Go does not know. A random secret has
// such a shape with a probability far below one in a billion.
func isDER(b []byte) bool {
	for _, shape := range []any{
		&struct { // SubjectPublicKeyInfo, RFC 5280 section 4.1
			Algorithm pkix.AlgorithmIdentifier
			Key       asn1.BitString
		}{},
		&struct { // Certificate and CertificationRequest, RFC 5280 section 4.1
			Signed    asn1.RawValue
			Algorithm pkix.AlgorithmIdentifier
			Signature asn1.BitString
		}{},
		&struct { // RSAPublicKey, RFC 8017 appendix A.1.1
			N *big.Int
			E int
		}{},
		&struct { // RSAPrivateKey, RFC 8017 appendix A.1.2
			Version int
			N       *big.Int
			E       int
		}{},
		&struct { // PrivateKeyInfo, RFC 5958 section 2
			Version   int
			Algorithm pkix.AlgorithmIdentifier
			Key       []byte
		}{},
		&struct { // EncryptedPrivateKeyInfo, RFC 5958 section 3
			Algorithm pkix.AlgorithmIdentifier
			Key       []byte
		}{},
		&struct { // ECPrivateKey, RFC 5915 section 3
			Version int
			Key     []byte
		}{},
	} {
		if rest, err := asn1.Unmarshal(b, shape); err == nil && len(rest) == 0 {
			return true
		}
	}
	return false
}
