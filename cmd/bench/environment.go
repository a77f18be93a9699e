package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/seed-64e334f9/notification-gateway/auth"
	"github.com/seed-64e334f9/notification-gateway/store"
)

const maxFile = 1 << 20 // bytes of a file that a variable names, as in the gateway

// variable reads an environment variable as the gateway does: from the file that
// NAME_FILE names, where that is set; an empty value counts as unset. Its errors
// hold neither the value nor the path, which by mistake may be the value.
func variable(name string) (string, error) {
	value := strings.TrimSpace(os.Getenv(name))
	path := strings.TrimSpace(os.Getenv(name + "_FILE"))
	switch {
	case path == "":
		return value, nil
	case value != "":
		return "", fmt.Errorf("%s_FILE: %s is set too; set one of them", name, name)
	}
	text, err := readFile(path)
	if failed := (*os.PathError)(nil); errors.As(err, &failed) {
		return "", fmt.Errorf("%s_FILE: %s the file: %w", name, failed.Op, failed.Err)
	}
	if value = strings.TrimSpace(string(text)); value == "" {
		return "", fmt.Errorf("%s_FILE: the file is empty", name)
	}
	return value, nil
}

func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close() // it was only read
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(text) > maxFile {
		err = &os.PathError{Op: "read", Path: path, Err: fmt.Errorf("the file has more than %d bytes", maxFile)}
	}
	return text, err
}

// databaseURL is the flag's value, else DATABASE_URL. It may be empty; if not, it
// has a form that the gateway reads too.
func databaseURL(fromFlag string) (string, error) {
	url, name := fromFlag, "--database-url"
	if url == "" {
		var err error
		if url, err = variable("DATABASE_URL"); err != nil {
			return "", err
		}
		name = "DATABASE_URL"
	}
	if url == "" {
		return "", nil
	}
	if _, err := store.CheckURL(url); err != nil {
		return "", fmt.Errorf("%s: %w", name, err)
	}
	return url, nil
}

// signer mints tokens that a gateway with the same environment accepts.
type signer struct {
	secret    []byte
	userClaim string
	claims    map[string]string // that every token has
}

// newSigner reads GATEWAY_JWT_SECRET and the variables that say what a token must
// hold. It returns nil where there is no secret. secretFile outranks the
// variable; empty is none.
func newSigner(secretFile string) (*signer, error) {
	text, name := "", "--secret-file"
	if secretFile != "" {
		content, err := readFile(secretFile)
		if err != nil {
			return nil, fmt.Errorf("--secret-file: %w", err)
		}
		if text = strings.TrimSpace(string(content)); text == "" {
			return nil, errors.New("--secret-file: the file is empty")
		}
	} else {
		var err error
		if text, err = variable("GATEWAY_JWT_SECRET"); err != nil || text == "" {
			return nil, err
		}
		name = "GATEWAY_JWT_SECRET"
	}
	secrets, err := auth.ParseSecrets(text)
	if err == nil && len(secrets) == 0 {
		err = errors.New("it holds no secret")
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	s := &signer{secret: secrets[0], claims: map[string]string{}} // the first signs, as with gateway token
	for claim, name := range map[string]string{"iss": "GATEWAY_JWT_ISSUER", "aud": "GATEWAY_JWT_AUDIENCE"} {
		if value := strings.TrimSpace(os.Getenv(name)); value != "" {
			s.claims[claim] = value
		}
	}
	s.userClaim = cmp.Or(strings.TrimSpace(os.Getenv("GATEWAY_JWT_USER_CLAIM")), "user_id")
	return s, nil
}

// token returns a token for a user that is good for life.
func (s *signer) token(user int64, life time.Duration) (string, error) {
	claims, err := auth.Claims(s.userClaim, strconv.FormatInt(user, 10), life)
	if err != nil {
		return "", fmt.Errorf("GATEWAY_JWT_USER_CLAIM: %w", err)
	}
	for name, value := range s.claims {
		claims[name] = value
	}
	token, err := auth.Mint(s.secret, claims)
	if err != nil {
		return "", fmt.Errorf("mint a token: %w", err)
	}
	return token, nil
}
