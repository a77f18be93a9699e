package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"time"

	"github.com/seed-64e334f9/notification-gateway/auth"
)

// token mints a token with the first configured shared secret, for trying out.
func token(_ context.Context, args []string, stdout, stderr io.Writer) error {
	fs := flag.NewFlagSet("token", flag.ContinueOnError)
	user := fs.String("user", "", "the `USER` that the token names, an integer or a text; required")
	ttl := time.Hour
	fs.Func("ttl", "how long the token is good, a `duration` (default 1h)", func(text string) (err error) {
		if ttl, err = time.ParseDuration(text); err != nil {
			return errors.New("must be " + durationForm)
		}
		if ttl <= 0 {
			return errors.New("must be above zero")
		}
		return nil
	})
	if _, err := parseFlags(fs, "gateway token --user 5 [--ttl 1h]", args, 0, stdout); err != nil {
		return err
	}
	if *user == "" {
		return usageError{errors.New("--user: required")}
	}
	c, err := readConfig()
	if err == nil {
		err = c.validateTokens()
	}
	if err == nil && len(c.secrets) == 0 {
		err = errors.New("GATEWAY_JWT_SECRET: required to mint a token")
	}
	if err != nil {
		return usageError{err}
	}
	text, err := c.mint(*user, ttl)
	if err != nil {
		return usageError{fmt.Errorf("--user: %w", err)}
	}
	// Beside the token, so that $(gateway token …) is the token alone.
	fmt.Fprintf(stderr, "%s is %s, until %s\n", c.JWTUserClaim, *user, time.Now().Add(ttl).UTC().Format(time.RFC3339))
	_, err = fmt.Fprintln(stdout, text)
	return err
}

// mint makes a token for a user with the first shared secret.
func (c *config) mint(user string, ttl time.Duration) (string, error) {
	claims, err := auth.Claims(c.JWTUserClaim, user, ttl)
	if err != nil {
		return "", err
	}
	if c.JWTIssuer != "" {
		claims["iss"] = c.JWTIssuer
	}
	if c.JWTAudience != "" {
		claims["aud"] = c.JWTAudience
	}
	text, err := auth.Mint(c.secrets[0], claims)
	if err != nil {
		return "", fmt.Errorf("mint: %w", err)
	}
	return text, nil
}
