package main

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"os"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/kelseyhightower/envconfig"

	"github.com/seed-64e334f9/notification-gateway/auth"
	"github.com/seed-64e334f9/notification-gateway/gateway"
	"github.com/seed-64e334f9/notification-gateway/store"
)

// config is the whole configuration, read from the environment once and passed
// by value. The table of deploy/README.md is generated from its tags.
type config struct {
	DatabaseURL       string        `envconfig:"DATABASE_URL" desc:"Postgres, as a URL or keyword/value string; required"`
	ListenDatabaseURL string        `envconfig:"GATEWAY_LISTEN_DATABASE_URL" desc:"direct connection for LISTEN when DATABASE_URL goes through a pooler; empty: DATABASE_URL"`
	Addr              string        `envconfig:"GATEWAY_ADDR" default:":8080" desc:"public listener"`
	AdminAddr         string        `envconfig:"GATEWAY_ADMIN_ADDR" default:"127.0.0.1:9090" desc:"listener of /livez, /readyz, /metrics and /debug/pprof/"`
	PathPrefix        string        `envconfig:"GATEWAY_PATH_PREFIX" default:"/api/notifications" desc:"path in front of /stream/ and /session/"`
	JWTSecret         string        `envconfig:"GATEWAY_JWT_SECRET" desc:"shared secret for HS256/384/512, at least 32 bytes; several, comma-separated, for rotation"`
	JWKSURL           string        `envconfig:"GATEWAY_JWKS_URL" desc:"key set for RS/PS/ES/EdDSA; may be set beside the secret; read again every minute, so a key that left it counts for a minute at the most"`
	JWKSFile          string        `envconfig:"GATEWAY_JWKS_FILE" desc:"the same keys from a file: a key set or PEM public keys; read again when it changes"`
	AuthURL           string        `envconfig:"GATEWAY_AUTH_URL" desc:"endpoint of the CRM that says whom a request's cookies or Authorization name, for logins that are no JWT"`
	AuthField         string        `envconfig:"GATEWAY_AUTH_FIELD" default:"/id" desc:"where in its JSON answer the user stands: a name or a JSON pointer"`
	AuthCookies       []string      `envconfig:"GATEWAY_AUTH_COOKIES" default:"sessionid" desc:"names of the cookies that it is asked with, comma-separated"`
	JWTIssuer         string        `envconfig:"GATEWAY_JWT_ISSUER" desc:"iss that a token must have"`
	JWTAudience       string        `envconfig:"GATEWAY_JWT_AUDIENCE" desc:"aud that a token must have"`
	JWTUserClaim      string        `envconfig:"GATEWAY_JWT_USER_CLAIM" default:"user_id" desc:"claim that names the user, integer or string; several, comma-separated, are joined by a colon; /a/b is a JSON pointer"`
	JWTGroupsClaim    string        `envconfig:"GATEWAY_JWT_GROUPS_CLAIM" desc:"claim that names groups of the user, one or a list"`
	JWTRequireExp     bool          `envconfig:"GATEWAY_JWT_REQUIRE_EXP" default:"true" desc:"false: tokens without exp are taken too, and stay good until their key goes"`
	JWTLeeway         time.Duration `envconfig:"GATEWAY_JWT_LEEWAY" default:"30s" desc:"how far clocks may differ"`
	Recipient         string        `envconfig:"GATEWAY_RECIPIENT" default:"auto" desc:"claim: the claim is the user key; lookup: it is looked up in the view identity; auto: lookup where the view is there, else claim"`
	RecipientCheck    time.Duration `envconfig:"GATEWAY_RECIPIENT_CHECK" default:"5m" desc:"how often an open stream's recipient is looked up again; 0: never"`
	Cookie            string        `envconfig:"GATEWAY_COOKIE" default:"notifications_token" desc:"name of the session cookie"`
	CookieInsecure    bool          `envconfig:"GATEWAY_COOKIE_INSECURE" default:"false" desc:"true: the session cookie also goes over plain HTTP"`
	AllowedOrigins    []string      `envconfig:"GATEWAY_ALLOWED_ORIGINS" desc:"exact origins of other sites whose pages may connect, comma-separated"`
	PingInterval      time.Duration `envconfig:"GATEWAY_PING_INTERVAL" default:"30s" desc:"between two pings of a stream"`
	MaxStreams        int           `envconfig:"GATEWAY_MAX_STREAMS" default:"100000" desc:"streams in all"`
	MaxStreamsPerUser int           `envconfig:"GATEWAY_MAX_STREAMS_PER_USER" default:"20" desc:"streams of one user; past it the oldest ends with replaced"`
	ConnectsPerMinute int           `envconfig:"GATEWAY_CONNECTS_PER_MINUTE" default:"0" desc:"requests of one address in a minute; 0: no limit"`
	TrustedProxies    []string      `envconfig:"GATEWAY_TRUSTED_PROXIES" desc:"CIDRs whose X-Forwarded-For counts, comma-separated"`
	StreamBuffer      int           `envconfig:"GATEWAY_STREAM_BUFFER" default:"65536" desc:"bytes that may wait for one slow client"`
	ReplayLimit       int           `envconfig:"GATEWAY_REPLAY_LIMIT" default:"1000" desc:"notifications in one page of a replay, and of replay=unread in all"`
	Drain             time.Duration `envconfig:"GATEWAY_DRAIN" default:"30s" desc:"from SIGTERM to exit"`
	Retention         time.Duration `envconfig:"GATEWAY_RETENTION" default:"168h" desc:"how long a cursor stays good"`
	TLSCert           string        `envconfig:"GATEWAY_TLS_CERT" desc:"certificate file; reloaded when it changes"`
	TLSKey            string        `envconfig:"GATEWAY_TLS_KEY" desc:"key file of the certificate"`
	PProf             bool          `envconfig:"GATEWAY_PPROF" default:"false" desc:"true: /debug/pprof/ also where the admin listener is not on loopback"`
	LogLevel          string        `envconfig:"GATEWAY_LOG_LEVEL" default:"info" desc:"debug, info, warn or error"`
	LogFormat         string        `envconfig:"GATEWAY_LOG_FORMAT" default:"json" desc:"json or text"`

	secrets [][]byte          // JWTSecret, split
	keys    []byte            // what is in JWKSFile; nil without
	proxies []netip.Prefix    // TrustedProxies, parsed
	files   map[string]string // variable → the file that it was read from
	empty   []string          // variables that were set to nothing, sorted
}

const durationForm = "a duration such as 30s, 5m or 168h"

// readConfig reads the environment. Its error names the bad variable and never
// holds its value, which may be a secret.
func readConfig() (config, error) {
	empty, err := unsetEmpty()
	if err != nil {
		return config{}, err
	}
	c := config{files: map[string]string{}, empty: empty}
	if err := envconfig.Process("", &c); err != nil {
		var pe *envconfig.ParseError
		if errors.As(err, &pe) {
			return c, fmt.Errorf("%s: must be %s", pe.KeyName, map[string]string{
				"time.Duration": durationForm, "int": "a whole number such as 1000", "bool": "true or false",
			}[pe.TypeName])
		}
		return c, errors.New("the environment cannot be read")
	}
	for name, value := range c.fromFiles() {
		if err := c.fromFile(name, value); err != nil {
			return c, err
		}
	}
	return c, nil
}

// unsetEmpty removes each of our variables that is set to nothing, because
// templates and compose files write NAME= where they have no value. Left alone,
// an empty address would mean every interface and a random port. It returns the
// names.
func unsetEmpty() (empty []string, err error) {
	for name := range knownVariables() {
		if value, set := os.LookupEnv(name); set && strings.TrimSpace(value) == "" {
			if err := os.Unsetenv(name); err != nil {
				return nil, fmt.Errorf("%s: unset the empty value: %w", name, err)
			}
			empty = append(empty, name)
		}
	}
	slices.Sort(empty)
	return empty, nil
}

// knownVariables are the names that are read, those with _FILE too.
func knownVariables() map[string]bool {
	known := map[string]bool{}
	for field := range reflect.TypeFor[config]().Fields() {
		if name := field.Tag.Get("envconfig"); name != "" {
			known[name] = true
		}
	}
	for name := range new(config).fromFiles() {
		known[name+"_FILE"] = true
	}
	return known
}

// fromFiles are the variables that may come from a file.
func (c *config) fromFiles() map[string]*string {
	return map[string]*string{
		"DATABASE_URL": &c.DatabaseURL, "GATEWAY_LISTEN_DATABASE_URL": &c.ListenDatabaseURL,
		"GATEWAY_JWT_SECRET": &c.JWTSecret, "GATEWAY_JWKS_URL": &c.JWKSURL, "GATEWAY_AUTH_URL": &c.AuthURL,
	}
}

// unknownVariables returns the variables that have our prefix and are not read.
// A misspelt name would otherwise leave the default in force without a word.
func unknownVariables() (unknown []string) {
	known := knownVariables()
	for _, variable := range os.Environ() {
		name, _, _ := strings.Cut(variable, "=")
		// Kubernetes sets these beside a Service named gateway
		// (https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables).
		theirs := name == "GATEWAY_PORT" || strings.HasPrefix(name, "GATEWAY_PORT_") || strings.HasPrefix(name, "GATEWAY_SERVICE_")
		if strings.HasPrefix(name, "GATEWAY_") && !known[name] && !theirs {
			unknown = append(unknown, name)
		}
	}
	return unknown
}

// fromFile takes a variable from the file that NAME_FILE names.
func (c *config) fromFile(name string, value *string) error {
	path := os.Getenv(name + "_FILE")
	if path == "" {
		return nil
	}
	if *value != "" {
		return fmt.Errorf("%s_FILE: %s is set too; set one of them", name, name)
	}
	text, err := readFile(path)
	var failed *os.PathError
	if errors.As(err, &failed) { // without the path: by mistake it may be the secret itself
		return fmt.Errorf("%s_FILE: %s the file: %w", name, failed.Op, failed.Err)
	}
	c.files[name] = path
	*value = strings.TrimSpace(string(text))
	if *value == "" {
		return fmt.Errorf("%s_FILE: the file is empty", name)
	}
	return nil
}

// validateDatabase checks what every command that reaches Postgres needs.
func (c *config) validateDatabase() error {
	if c.DatabaseURL == "" {
		return errors.New("DATABASE_URL: required")
	}
	for name, url := range c.databaseURLs() {
		if _, err := store.CheckURL(url); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

// databaseURLs returns the connection strings that are set, by variable.
func (c *config) databaseURLs() map[string]string {
	urls := map[string]string{"DATABASE_URL": c.DatabaseURL}
	if c.ListenDatabaseURL != "" {
		urls["GATEWAY_LISTEN_DATABASE_URL"] = c.ListenDatabaseURL
	}
	return urls
}

// validateServe checks the whole and parses what has a form.
func (c *config) validateServe() error {
	if err := c.validateDatabase(); err != nil {
		return err
	}
	if err := c.validateTokens(); err != nil {
		return err
	}
	if !strings.HasPrefix(c.PathPrefix, "/") || strings.ContainsAny(c.PathPrefix, " {}?#%;\\\"\r\n") || strings.Contains(c.PathPrefix, "//") {
		return errors.New("GATEWAY_PATH_PREFIX: must begin with / and be a plain path")
	}
	c.PathPrefix = strings.TrimRight(c.PathPrefix, "/")
	for name, d := range map[string]time.Duration{"GATEWAY_PING_INTERVAL": c.PingInterval, "GATEWAY_RETENTION": c.Retention} {
		if d < time.Second {
			return fmt.Errorf("%s: must be at least 1s", name)
		}
	}
	if c.PingInterval > time.Hour {
		return errors.New("GATEWAY_PING_INTERVAL: must be at most 1h")
	}
	for name, address := range map[string]string{"GATEWAY_ADDR": c.Addr, "GATEWAY_ADMIN_ADDR": c.AdminAddr} {
		if _, err := net.ResolveTCPAddr("tcp", address); err != nil {
			return fmt.Errorf("%s: must be an address such as 127.0.0.1:8080 or :8080", name)
		}
	}
	if c.RecipientCheck != 0 && c.RecipientCheck < time.Second {
		return errors.New("GATEWAY_RECIPIENT_CHECK: must be 0 or at least 1s")
	}
	if c.Drain < 0 {
		return errors.New("GATEWAY_DRAIN: must not be negative")
	}
	for name, n := range map[string]int{
		"GATEWAY_MAX_STREAMS": c.MaxStreams, "GATEWAY_MAX_STREAMS_PER_USER": c.MaxStreamsPerUser,
		"GATEWAY_REPLAY_LIMIT": c.ReplayLimit,
	} {
		if n < 1 {
			return fmt.Errorf("%s: must be at least 1", name)
		}
	}
	if c.ReplayLimit > 100_000 {
		return errors.New("GATEWAY_REPLAY_LIMIT: must be at most 100000")
	}
	if c.StreamBuffer < 4096 {
		return errors.New("GATEWAY_STREAM_BUFFER: must be at least 4096")
	}
	if c.ConnectsPerMinute < 0 {
		return errors.New("GATEWAY_CONNECTS_PER_MINUTE: must not be negative")
	}
	if strings.Trim(c.Cookie, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-") != "" || c.Cookie == "" {
		return errors.New("GATEWAY_COOKIE: must be letters, digits, - and _")
	}
	for _, text := range c.TrustedProxies {
		p, err := netip.ParsePrefix(strings.TrimSpace(text))
		if err != nil {
			return errors.New("GATEWAY_TRUSTED_PROXIES: must be CIDRs such as 10.0.0.0/8")
		}
		c.proxies = append(c.proxies, p.Masked())
	}
	for i, origin := range c.AllowedOrigins {
		canonical, err := gateway.CanonicalOrigin(strings.TrimSpace(origin))
		if err != nil {
			return fmt.Errorf("GATEWAY_ALLOWED_ORIGINS: %w", err)
		}
		c.AllowedOrigins[i] = canonical
	}
	if (c.TLSCert == "") != (c.TLSKey == "") {
		return errors.New("GATEWAY_TLS_CERT, GATEWAY_TLS_KEY: set both or none")
	}
	if strings.Contains(c.TLSCert+c.TLSKey, "-----BEGIN") {
		return errors.New("GATEWAY_TLS_CERT, GATEWAY_TLS_KEY: must be the names of files, not what they hold")
	}
	return c.validateLog()
}

func (c *config) validateTokens() error {
	var err error
	if c.secrets, err = auth.ParseSecrets(c.JWTSecret); err != nil {
		name := "GATEWAY_JWT_SECRET"
		if c.files[name] != "" {
			name += "_FILE"
		}
		return fmt.Errorf("%s: %w", name, err)
	}
	if !c.hasKeys() && c.AuthURL == "" {
		return errors.New("GATEWAY_JWT_SECRET, GATEWAY_JWKS_URL, GATEWAY_JWKS_FILE, GATEWAY_AUTH_URL: set at least one")
	}
	if c.JWKSFile != "" {
		if c.keys, err = readKeysFile(c.JWKSFile); err != nil {
			return fmt.Errorf("GATEWAY_JWKS_FILE: %w", err)
		}
	}
	if c.JWKSURL != "" {
		if err := checkKeySetURL(c.JWKSURL); err != nil {
			return err
		}
	}
	for name, text := range map[string]string{"GATEWAY_JWT_USER_CLAIM": c.JWTUserClaim, "GATEWAY_JWT_GROUPS_CLAIM": c.JWTGroupsClaim, "GATEWAY_AUTH_FIELD": c.AuthField} {
		if err := auth.CheckSelector(text); text != "" && err != nil {
			return fmt.Errorf("%s: must be names or JSON pointers, separated by commas: %w", name, err)
		}
	}
	if err := c.validateLogin(); err != nil {
		return err
	}
	if c.JWTLeeway < 0 || c.JWTLeeway > time.Hour {
		return errors.New("GATEWAY_JWT_LEEWAY: must be between 0 and 1h")
	}
	if c.Recipient != "auto" && c.Recipient != "claim" && c.Recipient != "lookup" {
		return errors.New("GATEWAY_RECIPIENT: must be auto, claim or lookup")
	}
	return nil
}

// hasKeys reports whether there is anything that verifies tokens.
func (c *config) hasKeys() bool { return len(c.secrets) > 0 || c.JWKSURL != "" || c.JWKSFile != "" }

// validateLogin checks how the CRM is asked.
func (c *config) validateLogin() error {
	if c.AuthURL == "" {
		return nil
	}
	if err := auth.CheckCRMURL(c.AuthURL); err != nil {
		return fmt.Errorf("GATEWAY_AUTH_URL: %w", err)
	}
	for i, name := range c.AuthCookies {
		c.AuthCookies[i] = strings.TrimSpace(name)
		if c.AuthCookies[i] == "" || strings.ContainsAny(c.AuthCookies[i], " \t\r\n;=\"") {
			return errors.New("GATEWAY_AUTH_COOKIES: must be names of cookies, separated by commas")
		}
	}
	return nil
}

// verifier returns what auth needs of the configuration.
func (c *config) verifier(logger *slog.Logger) auth.Config {
	return auth.Config{
		Secrets: c.secrets, KeySetURL: c.JWKSURL, Keys: c.keys, Issuer: c.JWTIssuer, Audience: c.JWTAudience,
		UserClaim: c.JWTUserClaim, GroupsClaim: c.JWTGroupsClaim, NoKeys: c.AuthURL != "", Leeway: c.JWTLeeway, AllowNoExpiry: !c.JWTRequireExp, Logger: logger,
	}
}

func checkKeySetURL(text string) error {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
		return errors.New("GATEWAY_JWKS_URL: must be an http or https URL")
	}
	return nil
}

func (c *config) validateLog() error {
	switch c.LogLevel {
	case "debug", "info", "warn", "error":
	default:
		return errors.New("GATEWAY_LOG_LEVEL: must be debug, info, warn or error")
	}
	if c.LogFormat != "json" && c.LogFormat != "text" {
		return errors.New("GATEWAY_LOG_FORMAT: must be json or text")
	}
	return nil
}
