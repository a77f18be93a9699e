package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"

	"github.com/seed-64e334f9/notification-gateway/store/crmdb"
)

// besideGateway is the stack where gateways run already, as in
// deploy/compose.yaml: the CRM's database and the secret come from the same
// variables as theirs.
func besideGateway(ctx context.Context, address string) (*stack, error) {
	gateway, err := url.Parse(address)
	if err != nil || gateway.Host == "" {
		return nil, errors.New("-gateway: must be a URL such as http://gateway:8080")
	}
	database, secret := os.Getenv("DATABASE_URL"), os.Getenv("GATEWAY_JWT_SECRET")
	if database == "" || secret == "" {
		return nil, errors.New("DATABASE_URL, GATEWAY_JWT_SECRET: required with -gateway")
	}
	s := &stack{secret: []byte(secret), address: func() *url.URL { return gateway }}
	if s.crm, err = crmdb.Open(ctx, database); err != nil {
		return nil, fmt.Errorf("open the CRM's database: %w", err)
	}
	s.later(func() error { s.crm.Close(); return nil })
	if err := s.crm.Exec(ctx, peopleSQL); err != nil {
		return nil, errors.Join(fmt.Errorf("load the people: %w", err), s.stop())
	}
	return s, nil
}
