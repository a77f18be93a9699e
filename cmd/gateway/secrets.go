package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/seed-64e334f9/notification-gateway/auth"
)

// minSecret is RFC 7518 section 3.2: a key at least as long as HS256's output.
const minSecret = 32

// splitSecrets reads GATEWAY_JWT_SECRET: several, while they rotate.
func splitSecrets(text string) ([][]byte, error) {
	var secrets [][]byte
	for secret := range strings.SplitSeq(text, ",") {
		if secret = strings.TrimSpace(secret); secret == "" {
			continue
		}
		if len(secret) < minSecret {
			return nil, fmt.Errorf("GATEWAY_JWT_SECRET: each secret must have at least %d bytes", minSecret)
		}
		secrets = append(secrets, []byte(secret))
	}
	return secrets, nil
}

// errRestart is what a changed file that is only read at the start gives.
var errRestart = errors.New("it is read at the start alone: restart to use it")

// watchSecrets watches the files that the _FILE variables name.
func (c config) watchSecrets(verifier *auth.Verifier) []*watched {
	take := map[string]func(text string) error{
		"GATEWAY_JWT_SECRET": func(text string) error {
			secrets, err := splitSecrets(text)
			if err != nil {
				return err
			}
			return verifier.SetSecrets(secrets)
		},
		"GATEWAY_JWKS_URL": func(text string) error {
			if err := checkKeySetURL(text); err != nil {
				return err
			}
			return verifier.SetKeySetURL(text)
		},
		"DATABASE_URL":                startOnly(c.DatabaseURL),
		"GATEWAY_LISTEN_DATABASE_URL": startOnly(c.ListenDatabaseURL),
	}
	var all []*watched
	for name, path := range c.files {
		all = append(all, &watched{variable: name + "_FILE", paths: []string{path}, take: func(contents [][]byte) error {
			text := strings.TrimSpace(string(contents[0]))
			if text == "" {
				return errors.New("the file is empty")
			}
			return take[name](text)
		}})
	}
	return all
}

// startOnly refuses everything but what the process was started with.
func startOnly(began string) func(string) error {
	return func(text string) error {
		if text != began {
			return errRestart
		}
		return nil
	}
}
