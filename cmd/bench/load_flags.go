package main

import (
	"cmp"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/url"
	"os"
	"strings"
	"time"
)

// loadPlan is what one load does.
type loadPlan struct {
	target   target
	streams  int
	users    int
	first    int      // user
	tokens   []string // one for each user, or as given
	probe    string   // token of a user of its own; empty without one
	slow     int
	storm    int
	inFlight int
	duration time.Duration
	database string
	insert   string
	rate     float64
	burst    int
	payload  int
	pid      int
	json     bool
}

// parseLoad reads the flags of load.
func parseLoad(args []string, stdout io.Writer) (p loadPlan, err error) {
	fs := flag.NewFlagSet("load", flag.ContinueOnError)
	address := fs.String("url", "", "the `URL` of the event stream; required")
	event := fs.String("event", "notification", "the event `type` that is counted; message: events without one")
	insecure := fs.Bool("insecure", false, "take any certificate")
	token := fs.String("token", "", "the `token` that every stream sends")
	tokenFile := fs.String("token-file", "", "`file` with a token on each line, which the streams take in turn")
	secretFile := fs.String("secret-file", "", "`file` with the secret (HS256) to mint tokens with; else GATEWAY_JWT_SECRET")
	fs.IntVar(&p.streams, "streams", 100, "`number` of streams")
	fs.IntVar(&p.users, "users", 0, "`number` of users that the streams belong to; default: one for each stream")
	fs.IntVar(&p.first, "first-user", 1, "the first user; the others follow")
	fs.IntVar(&p.slow, "slow", 0, "`number` of streams besides, that never read")
	fs.IntVar(&p.storm, "storm", 0, "`number` of streams that are cut at half-time and come back with their last event ID")
	fs.IntVar(&p.inFlight, "in-flight", inFlight, "`number` of connections that wait for their answer at once")
	fs.DurationVar(&p.duration, "duration", 30*time.Second, "how long to listen once all streams are open")
	fs.StringVar(&p.database, "database-url", "", "the CRM's Postgres: insert rows there, which stay, for the users, and each tenth of a second one for the user after them, a probe of the latency; all must exist")
	fs.StringVar(&p.insert, "insert", insertSQL, "`statement` that inserts: $1 first user, $2 users, $3 bytes of filling, $4 rows")
	fs.Float64Var(&p.rate, "rate", 100, "rows a second")
	fs.IntVar(&p.burst, "burst", 0, "rows in one transaction; default: what makes 100 a second")
	fs.IntVar(&p.payload, "payload", 0, "`bytes` of filling in a row")
	fs.IntVar(&p.pid, "pid", 0, "the server's process `ID`, when it runs here: show its memory and CPU")
	fs.BoolVar(&p.json, "json", false, "write JSON instead of a table")
	if err := parseFlags(fs, "bench load --url http://127.0.0.1:8080/api/notifications/stream/ [flags]", args, stdout); err != nil {
		return p, err
	}
	if err := p.validate(*address, *event, *insecure); err != nil {
		return p, usageError{err}
	}
	if err := p.findTokens(*token, *tokenFile, *secretFile); err != nil {
		return p, usageError{err}
	}
	return p, nil
}

func (p *loadPlan) validate(address, event string, insecure bool) error {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" {
		return errors.New("--url: required, such as http://127.0.0.1:8080/api/notifications/stream/")
	}
	port, known := map[string]string{"http": ":80", "https": ":443"}[u.Scheme]
	if !known {
		return errors.New("--url: must be http or https")
	}
	if u.Port() == "" {
		u.Host += port
	}
	p.target = target{url: u, counted: event, insecure: insecure}
	p.users = cmp.Or(p.users, p.streams)
	p.burst = cmp.Or(p.burst, max(1, int(p.rate/100)))
	switch {
	case p.streams < 1 || p.users < 1 || p.inFlight < 1 || p.burst < 1:
		return errors.New("--streams, --users, --in-flight, --burst: must be at least 1")
	case p.slow < 0 || p.storm < 0 || p.payload < 0:
		return errors.New("--slow, --storm, --payload: must not be negative")
	case p.storm > p.streams:
		return errors.New("--storm: must be at most --streams")
	case p.streams%p.users != 0:
		return errors.New("--users: must divide --streams, so that it is known how many events must come")
	case p.rate <= 0 || p.duration <= 0:
		return errors.New("--rate, --duration: must be positive")
	}
	return nil
}

// findTokens takes those that are given, or mints them.
func (p *loadPlan) findTokens(token, tokenFile, secretFile string) error {
	secret := os.Getenv("GATEWAY_JWT_SECRET")
	switch {
	case token != "":
		p.tokens = []string{token}
		return nil
	case tokenFile != "":
		text, err := os.ReadFile(tokenFile)
		if err != nil {
			return fmt.Errorf("--token-file: %w", err)
		}
		if p.tokens = strings.Fields(string(text)); len(p.tokens) == 0 {
			return errors.New("--token-file: is empty")
		}
		return nil
	case secretFile != "":
		text, err := os.ReadFile(secretFile)
		if err != nil {
			return fmt.Errorf("--secret-file: %w", err)
		}
		secret = strings.TrimSpace(string(text))
	}
	if secret == "" {
		return nil // some servers want no token
	}
	secret, _, _ = strings.Cut(secret, ",") // the first signs, as with gateway token
	tokens, err := mintTokens(secret, p.first, p.users+1)
	if err != nil {
		return err
	}
	p.tokens, p.probe = tokens[:p.users], tokens[p.users]
	return nil
}
