package main

import (
	"fmt"
	"time"

	"github.com/seed-64e334f9/notification-gateway/auth"
)

const tokenLife = 2 * time.Hour

// claims are what a token for a user says.
func claims(user int) map[string]any {
	now := time.Now()
	return map[string]any{"token_type": "access", "iat": now.Unix(), "exp": now.Add(tokenLife).Unix(), "user_id": user}
}

// mintTokens makes a token for each of the users first and up.
func mintTokens(secret string, first, users int) ([]string, error) {
	tokens := make([]string, users)
	for i := range tokens {
		var err error
		if tokens[i], err = auth.Mint([]byte(secret), claims(first+i)); err != nil {
			return nil, fmt.Errorf("mint a token: %w", err)
		}
	}
	return tokens, nil
}
