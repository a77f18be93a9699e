package auth

import (
	"bytes"
	"errors"
)

// SetSecrets replaces the shared secrets. A token that only a removed secret had
// signed is refused from now on, also if it was remembered. Secrets that cannot
// be used are an error, which never holds them, and change nothing.
func (v *Verifier) SetSecrets(secrets [][]byte) error {
	if len(secrets) == 0 && v.keys == nil && v.filed.Load() == nil {
		return errors.New("no shared secret is left, and there is no key set")
	}
	if err := checkSecrets(secrets); err != nil {
		return err
	}
	for _, secret := range secrets {
		for _, known := range *v.secrets.Load() {
			if len(secret) < len(known) && bytes.HasPrefix(known, secret) {
				return errors.New("a secret is the beginning of one in use, as in a file that is half written")
			}
		}
	}
	v.secrets.Store(&secrets)
	v.cache.flush() // after the secrets: what was verified by the old ones has the old epoch too
	return nil
}

// SetKeySetURL reads the key set elsewhere from the next refresh on, and makes
// that one due. The keys of the old place stay good until the new place has
// answered. It only works where there was a key set from the beginning.
func (v *Verifier) SetKeySetURL(url string) error {
	if v.keys == nil || url == "" {
		return errors.New("a key set cannot come or go while the process runs")
	}
	v.keys.url.Store(&url)
	v.keys.refreshSoon()
	return nil
}

// CheckKeys reports why the content of a file cannot be used for SetKeys. Its
// error never holds the content.
func CheckKeys(content []byte) error {
	_, err := parseKeys(content)
	return err
}

// SetKeys replaces the keys that came from a file: a JWK Set, a JWK or PEM public
// keys. A token that only a removed key had signed is refused from now on. Keys
// that cannot be used are an error and change nothing. It only works where there
// were keys of a file from the beginning.
func (v *Verifier) SetKeys(content []byte) error {
	if v.filed.Load() == nil {
		return errors.New("a file of keys cannot come or go while the process runs")
	}
	keys, err := parseKeys(content)
	if err != nil {
		return err
	}
	v.filed.Store(&keys)
	v.cache.flush() // after the keys, as in SetSecrets
	return nil
}
