package pg

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// ErrURL is returned for a connection string that cannot be parsed. The reason
// would show it.
var ErrURL = errors.New("the connection string cannot be parsed: a URL such as postgres://user@host/database, or host=… dbname=…")

// ParseURL reads a connection string as psql, Django, Rails and Prisma know it,
// and returns the parameters that it drops. Its errors show nothing of the string
// except the names of parameters.
func ParseURL(text string) (c *pgx.ConnConfig, dropped []string, err error) {
	if text, err = postgresURL(text); err != nil {
		return nil, nil, err
	}
	if c, err = pgx.ParseConfig(text); err != nil {
		return nil, nil, ErrURL
	}
	dropped, err = clientSide(c)
	return c, dropped, err
}

// ParsePoolURL is ParseURL for a pool, which reads the parameters pool_… as well.
func ParsePoolURL(text string) (*pgxpool.Config, error) {
	text, err := postgresURL(text)
	if err != nil {
		return nil, err
	}
	c, err := pgxpool.ParseConfig(text)
	if err != nil {
		return nil, ErrURL
	}
	_, err = clientSide(c.ConnConfig)
	return c, err
}

// postgresURL writes the schemes of other libraries as Postgres's own. A text
// without a scheme and without key=value is refused: the driver would take it for
// no host at all, and connect to the local socket.
func postgresURL(text string) (string, error) {
	text = strings.TrimSpace(text)
	scheme, rest, isURL := strings.Cut(text, "://")
	if !isURL || strings.ContainsAny(scheme, " =") {
		if !strings.Contains(text, "=") {
			return "", ErrURL
		}
		return text, nil
	}
	library, _, _ := strings.Cut(strings.ToLower(scheme), "+") // postgresql+psycopg2, SQLAlchemy's
	switch library {
	case "postgres", "postgresql", "postgis", "pgsql", "psql", "timescale", "timescalegis":
		return "postgresql://" + rest, nil
	}
	return "", errors.New("the connection string has a scheme that is not Postgres's: write postgres://")
}

// clientSide takes out of the parameters for the server those that are meant for
// a client. It carries out what a driver in Go can, drops what changes nothing
// here, and refuses what would weaken the connection if it were dropped
// (https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-PARAMKEYWORDS).
func clientSide(c *pgx.ConnConfig) (dropped []string, err error) {
	for name, value := range c.RuntimeParams {
		taken, drop, err := clientParameter(c, name, value)
		if err != nil {
			return nil, err
		}
		if drop {
			dropped = append(dropped, name)
		}
		if taken || drop {
			delete(c.RuntimeParams, name)
		}
	}
	slices.Sort(dropped)
	return dropped, nil
}

func clientParameter(c *pgx.ConnConfig, name, value string) (taken, drop bool, err error) {
	unsupported := fmt.Errorf("the parameter %s of the connection string is not supported: take it out", name)
	switch name {
	case "hostaddr":
		addresses := strings.Split(value, ",")
		c.LookupFunc = func(context.Context, string) ([]string, error) { return addresses, nil }
		return true, false, nil
	case "ssl_min_protocol_version", "ssl_max_protocol_version":
		version, ok := map[string]uint16{"TLSv1": tls.VersionTLS10, "TLSv1.1": tls.VersionTLS11, "TLSv1.2": tls.VersionTLS12, "TLSv1.3": tls.VersionTLS13}[value]
		if !ok {
			return false, false, fmt.Errorf("the parameter %s of the connection string must be TLSv1.2 or TLSv1.3", name)
		}
		for _, t := range tlsConfigs(c) {
			if name == "ssl_min_protocol_version" {
				t.MinVersion = version
			} else {
				t.MaxVersion = version
			}
		}
		return true, false, nil
	case "fallback_application_name":
		return true, false, nil
	case "gssencmode":
		if value == "require" {
			return false, false, unsupported
		}
		return false, true, nil
	case "requiressl", "sslcrl", "sslcrldir":
		if name == "requiressl" && value == "1" || name != "requiressl" && len(tlsConfigs(c)) > 0 {
			return false, false, unsupported
		}
		return false, true, nil
	case "requirepeer":
		if strings.HasPrefix(c.Host, "/") {
			return false, false, unsupported
		}
		return false, true, nil
	case "keepalives", "keepalives_idle", "keepalives_interval", "keepalives_count", "tcp_user_timeout", "load_balance_hosts", "sslcompression", "gsslib", "gssdelegation",
		"pgbouncer", "schema", "connection_limit", "pool_timeout", "socket_timeout", "statement_cache_size", "sslaccept", "sslidentity", // Prisma
		"pool", "pool_size", "max_overflow", "prepared_statements", "reconnect", "conn_max_age", "conn_health_checks", "prepared_statement_cache_size": // Rails, Django, SQLAlchemy
		return false, true, nil
	}
	return strings.HasPrefix(name, "pool_"), false, nil // the pool has taken its own
}

// tlsConfigs returns the TLS settings of every try that c makes.
func tlsConfigs(c *pgx.ConnConfig) (all []*tls.Config) {
	if c.TLSConfig != nil {
		all = append(all, c.TLSConfig)
	}
	for _, f := range c.Fallbacks {
		if f.TLSConfig != nil {
			all = append(all, f.TLSConfig)
		}
	}
	return all
}
