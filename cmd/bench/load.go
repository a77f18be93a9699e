package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/seed-64e334f9/notification-gateway/cmd/bench/internal/report"
	"github.com/seed-64e334f9/notification-gateway/cmd/bench/internal/swarm"
)

// load reads the flags of bench load, opens the streams and writes what came.
func load(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	p, asJSON, err := parseLoad(args, stdout)
	if err != nil {
		return err
	}
	found, err := report.Load(ctx, p.LoadPlan, stderr)
	err = p.explain(err)
	switch {
	case found == nil:
	case asJSON:
		err = errors.Join(err, found.WriteJSON(stdout))
	default:
		found.WriteTable(stdout, p.Target.URL.String())
	}
	return err
}

// loadPlan is what the flags of load say.
type loadPlan struct {
	report.LoadPlan
	minted bool // the tokens were made here
}

// parseLoad reads the flags of load.
func parseLoad(args []string, stdout io.Writer) (p loadPlan, asJSON bool, err error) {
	fs := flag.NewFlagSet("load", flag.ContinueOnError)
	address := fs.String("url", "", "the `URL` of the event stream; required")
	event := fs.String("event", "notification", "the event `type` that is counted; message: events without one")
	insecure := fs.Bool("insecure", false, "take any certificate")
	token := fs.String("token", "", "the `token` that every stream sends")
	tokenFile := fs.String("token-file", "", "`file` with a token on each line, which the streams take in turn")
	secretFile := fs.String("secret-file", "", "`file` with the secret (HS256) to mint tokens with; else $GATEWAY_JWT_SECRET, or the file that $GATEWAY_JWT_SECRET_FILE names")
	fs.IntVar(&p.Streams, "streams", 100, "`number` of streams")
	fs.IntVar(&p.Users, "users", 0, "`number` of users that the streams belong to; default: one for each stream")
	fs.IntVar(&p.First, "first-user", 1, "the first user; the others follow")
	fs.IntVar(&p.Slow, "slow", 0, "`number` of streams besides, that never read")
	fs.IntVar(&p.Storm, "storm", 0, "`number` of streams that are cut at half-time and come back with their last event ID")
	fs.IntVar(&p.InFlight, "in-flight", swarm.DefaultInFlight, "`number` of connections that wait for their answer at once")
	fs.DurationVar(&p.Duration, "duration", 30*time.Second, "how long to listen once all streams are open")
	fs.StringVar(&p.Database, "database-url", "", "the CRM's Postgres: insert rows there, which stay, for the users, and each tenth of a second one for the user after them, a probe of the latency; all must exist")
	fs.StringVar(&p.Insert, "insert", report.InsertSQL, "`statement` that inserts: $1 first user, $2 users, $3 bytes of filling, $4 rows")
	fs.Float64Var(&p.Rate, "rate", 100, "rows a second")
	fs.IntVar(&p.Burst, "burst", 0, "rows in one transaction; default: what makes 100 a second")
	fs.IntVar(&p.Payload, "payload", 0, "`bytes` of filling in a row")
	fs.IntVar(&p.PID, "pid", 0, "the server's process `ID`, when it runs here: show its memory and CPU")
	fs.BoolVar(&asJSON, "json", false, "write JSON instead of a table")
	if err := parseFlags(fs, "bench load --url http://127.0.0.1:8080/api/notifications/stream/ [flags]", args, stdout); err != nil {
		return p, false, err
	}
	if err := p.validate(*address, *event, *insecure); err != nil {
		return p, false, usageError{err}
	}
	if p.Database != "" { // DATABASE_URL is not taken: rows are inserted only where somebody says so
		if p.Database, err = databaseURL(p.Database); err != nil {
			return p, false, usageError{err}
		}
	}
	if err := p.findTokens(*token, *tokenFile, *secretFile); err != nil {
		return p, false, usageError{err}
	}
	return p, asJSON, nil
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
	p.Target = swarm.Target{URL: u, Counted: event, Insecure: insecure}
	p.Users = cmp.Or(p.Users, p.Streams)
	p.Burst = cmp.Or(p.Burst, max(1, int(p.Rate/100)))
	switch {
	case p.Streams < 1 || p.Users < 1 || p.InFlight < 1 || p.Burst < 1:
		return errors.New("--streams, --users, --in-flight, --burst: must be at least 1")
	case p.Slow < 0 || p.Storm < 0 || p.Payload < 0:
		return errors.New("--slow, --storm, --payload: must not be negative")
	case p.Storm > p.Streams:
		return errors.New("--storm: must be at most --streams")
	case p.Streams%p.Users != 0:
		return errors.New("--users: must divide --streams, so that it is known how many events must come")
	case p.Rate <= 0 || p.Duration <= 0:
		return errors.New("--rate, --duration: must be positive")
	}
	return nil
}

// findTokens takes those that are given, or mints them.
func (p *loadPlan) findTokens(token, tokenFile, secretFile string) error {
	switch {
	case token != "":
		p.Tokens = []string{token}
		return nil
	case tokenFile != "":
		text, err := os.ReadFile(tokenFile)
		if err != nil {
			return fmt.Errorf("--token-file: %w", err)
		}
		if p.Tokens = strings.Fields(string(text)); len(p.Tokens) == 0 {
			return errors.New("--token-file: is empty")
		}
		return nil
	}
	s, err := newSigner(secretFile)
	if err != nil || s == nil { // some servers want no token
		return err
	}
	tokens := make([]string, p.Users+1)
	for i := range tokens {
		if tokens[i], err = s.token(int64(p.First+i), report.TokenLife); err != nil {
			return err
		}
	}
	p.Tokens, p.Probe, p.minted = tokens[:p.Users], tokens[p.Users], true
	return nil
}

// explain adds to an error of a load what helps where the server has refused the
// tokens.
func (p *loadPlan) explain(err error) error {
	var broken swarm.BrokenError
	if !errors.As(err, &broken) {
		return err
	}
	switch {
	case broken.Status == http.StatusUnauthorized && len(p.Tokens) == 0:
		return fmt.Errorf("%w\n  no token was sent: set GATEWAY_JWT_SECRET (or GATEWAY_JWT_SECRET_FILE), or give --secret-file, --token-file or --token", err)
	case broken.Status == http.StatusUnauthorized && p.minted:
		return fmt.Errorf("%w\n  the tokens were minted here: the secret, GATEWAY_JWT_USER_CLAIM, GATEWAY_JWT_ISSUER and GATEWAY_JWT_AUDIENCE must be those of the gateway", err)
	case broken.Status == http.StatusUnauthorized:
		return fmt.Errorf("%w\n  the token was refused: `gateway check --token` says why", err)
	case broken.Status == http.StatusForbidden:
		return fmt.Errorf("%w\n  a token names no active recipient: the users %d to %d must exist and be active", err, p.First, p.First+p.Users-1)
	}
	return err
}
