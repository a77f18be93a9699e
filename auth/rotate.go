package auth

import "errors"

// SetSecrets takes other shared secrets, from now on instead of the old ones:
// what an old one alone had signed is refused, remembered or not. Bad ones are
// an error, which never holds them, and change nothing.
func (v *Verifier) SetSecrets(secrets [][]byte) error {
	if len(secrets) == 0 && v.keys == nil {
		return errors.New("no shared secret is left, and there is no key set")
	}
	if err := checkSecrets(secrets); err != nil {
		return err
	}
	v.secrets.Store(&secrets)
	v.cache.flush() // after the secrets: who has read the old ones has the old epoch too
	return nil
}

// SetKeySetURL reads the key set elsewhere from the next refresh on, and makes
// that one due. The keys of the old place stay good until the new place has
// answered. It only works where there was a key set from the beginning.
func (v *Verifier) SetKeySetURL(url string) error {
	if v.keys == nil || url == "" {
		return errors.New("a key set cannot come or go while the process runs")
	}
	v.keys.move(url)
	return nil
}

func checkSecrets(secrets [][]byte) error {
	for _, secret := range secrets {
		if len(secret) < minSecretBytes {
			return errors.New("a shared secret is shorter than 32 bytes")
		}
	}
	return nil
}
