package main

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/seed-64e334f9/notification-gateway/auth"
	"github.com/seed-64e334f9/notification-gateway/gateway"
	"github.com/seed-64e334f9/notification-gateway/store"
	"github.com/seed-64e334f9/notification-gateway/store/schema"
)

var (
	_ gateway.CRM         = (*auth.CRM)(nil)
	_ gateway.Disconnects = (*store.Store)(nil)
)

// crm returns what asks the CRM whom logins name; nil without GATEWAY_AUTH_URL.
func (c *config) crm() (*auth.CRM, error) {
	if c.AuthURL == "" {
		return nil, nil
	}
	crm, err := auth.NewCRM(auth.CRMConfig{URL: c.AuthURL, Field: c.AuthField, Cookies: c.AuthCookies, Keys: c.hasKeys()})
	if err != nil {
		return nil, usageError{fmt.Errorf("GATEWAY_AUTH_URL: %w", err)}
	}
	return crm, nil
}

// newLogin wires the CRM into the gateway; it returns nil without one.
func newLogin(crm *auth.CRM, st *store.Store, registry prometheus.Registerer) *gateway.Login {
	if crm == nil {
		return nil
	}
	crm.Register(registry)
	return &gateway.Login{CRM: crm, Disconnects: st}
}

const (
	sessionKeyInterval = time.Minute     // a restored or refreshed database has another key
	sessionKeyRetry    = 2 * time.Second // until Postgres is there
)

// sessionKeys is where the key of the gateway's own sessions comes from.
type sessionKeys interface {
	SessionKey(ctx context.Context) ([]byte, error)
}

// keepSessionKey gives the key that all replicas share to those who use it, until
// ctx ends; it returns ctx's cause. Without a key a sign-out ends the streams of
// this replica only, and the CRM is asked at each reconnect. use gets an empty key
// when none could be read.
func keepSessionKey(ctx context.Context, keys sessionKeys, logger *slog.Logger, use func(key []byte)) error {
	said, known := false, false
	for {
		pause := sessionKeyInterval
		key, err := keys.SessionKey(ctx)
		switch {
		case err == nil:
			use(key)
			if !known {
				logger.Info("session key read")
			}
			said, known = false, true
		case ctx.Err() == nil:
			pause = sessionKeyRetry
			use(nil)
			if !said { // the feed says what is wrong with Postgres
				logger.Warn("no session key: a sign-out ends the streams of this replica only, and a CRM is asked at each reconnect; gateway migrate makes the key, and --grant-to gives it to this role", "err", err)
			}
			said = true
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// checkLogin asks the CRM without credentials, as somebody who is signed out.
func checkLogin(ctx context.Context, c config) []schema.Finding {
	crm, err := c.crm()
	if crm == nil && err == nil {
		return nil
	}
	if err == nil {
		err = crm.Probe(ctx)
	}
	if err != nil {
		return []schema.Finding{{
			Name: "login", Detail: "GATEWAY_AUTH_URL: " + err.Error(),
			Mend: "it must answer 401, 403 or a redirect to somebody signed out, and 200 with a JSON object to somebody signed in",
		}}
	}
	return []schema.Finding{{Name: "login", OK: true, Detail: "the CRM answers, and refuses a request without credentials"}}
}

// useSessionKey keeps the key that is known when none could be read.
func (s *service) useSessionKey(key []byte) {
	s.gateway.SetSessionKey(key)
	s.canaries.set(key)
	if s.crm != nil && len(key) > 0 {
		s.crm.SetSessionKey(key)
	}
}
