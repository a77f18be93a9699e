package report

import (
	"fmt"
	"strconv"
	"time"

	"github.com/seed-64e334f9/notification-gateway/auth"
)

// TokenLife is how long tokens are good: longer than any report takes.
const TokenLife = 2 * time.Hour

// claims are what a token for a user says.
func claims(user int) (map[string]any, error) {
	return auth.Claims("user_id", strconv.Itoa(user), TokenLife)
}

// mintTokens makes a token for each of the users first and up.
func mintTokens(secret string, first, users int) ([]string, error) {
	tokens := make([]string, users)
	for i := range tokens {
		c, err := claims(first + i)
		if err == nil {
			tokens[i], err = auth.Mint([]byte(secret), c)
		}
		if err != nil {
			return nil, fmt.Errorf("mint a token: %w", err)
		}
	}
	return tokens, nil
}
