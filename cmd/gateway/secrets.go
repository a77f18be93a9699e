package main

import (
	"errors"
	"strings"

	"github.com/seed-64e334f9/notification-gateway/auth"
)

// readKeysFile reads public keys at the start.
func readKeysFile(path string) ([]byte, error) {
	if strings.Contains(path, "-----BEGIN") || strings.HasPrefix(path, "{") {
		return nil, errors.New("must be the name of a file, not what it holds")
	}
	content, err := readFile(path)
	if err != nil {
		return nil, err
	}
	return content, auth.CheckKeys(content)
}

// errRestart is what a changed file that is only read at the start gives.
var errRestart = errors.New("it is read at the start alone: restart to use it")

// watchSecrets watches the files that the _FILE variables name.
func (c config) watchSecrets(verifier *auth.Verifier) []*watched {
	take := map[string]func(text string) error{
		"GATEWAY_JWT_SECRET": func(text string) error {
			secrets, err := auth.ParseSecrets(text)
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
		"GATEWAY_AUTH_URL":            startOnly(c.AuthURL),
		"DATABASE_URL":                startOnly(c.DatabaseURL),
		"GATEWAY_LISTEN_DATABASE_URL": startOnly(c.ListenDatabaseURL),
	}
	var all []*watched
	if c.JWKSFile != "" {
		all = append(all, &watched{variable: "GATEWAY_JWKS_FILE", paths: []string{c.JWKSFile}, take: func(contents [][]byte) error {
			return verifier.SetKeys(contents[0])
		}})
	}
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
