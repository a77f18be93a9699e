package main

import (
	"context"
	"errors"
	"net/url"

	"github.com/seed-64e334f9/notification-gateway/store/crmdb"
)

// stack is everything behind the page: Postgres, the CRM's tables, the gateway.
type stack struct {
	crm     *crmdb.DB       // connected as the CRM would be
	secret  []byte          // shared with the gateway
	address func() *url.URL // of a gateway, or of a proxy in front of several
	exited  <-chan struct{} // closed when a gateway has ended by itself; nil where others run it

	// What breaks the system, and mends it before it returns; nil where others run it.
	restartPostgres func(context.Context) error
	killReplica     func(context.Context) (number int, err error)

	cleanups []func() error // in reverse order
}

func (s *stack) later(f func() error) { s.cleanups = append(s.cleanups, f) }

// stop takes everything away in the reverse order.
func (s *stack) stop() error {
	var all error
	for i := len(s.cleanups) - 1; i >= 0; i-- {
		all = errors.Join(all, s.cleanups[i]())
	}
	s.cleanups = nil
	return all
}
