//go:build beside

package main

import (
	"context"
	"errors"
)

// startStack is left out of the demo that deploy/compose.yaml runs: what fetches
// and starts a Postgres needs many modules, and that one has its Postgres.
func startStack(context.Context, []string, func(string, ...any)) (*stack, error) {
	return nil, errors.New("-gateway: required, because this program was built with the tag beside")
}
