package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/seed-64e334f9/notification-gateway/cmd/bench/internal/losscheck"
)

// lossOptions is what the flags of check-loss say.
type lossOptions struct {
	losscheck.Options
	maxResets  int // negative: any
	keep, json bool
}

// checkLoss reads the flags of bench check-loss, runs the check and writes its
// report. The rows of a run that found a fault stay, to be looked at.
func checkLoss(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	o, err := parseCheckLoss(args, stdout)
	if err != nil {
		return err
	}
	found, remove, err := losscheck.Run(ctx, o.Options, slog.New(slog.NewTextHandler(stderr, nil)))
	if err != nil {
		return err
	}
	if err := found.Write(stdout, o.json); err != nil {
		return err
	}
	if err := found.Verdict(o.maxResets); err != nil {
		return err
	}
	if o.keep {
		return nil
	}
	return remove(ctx)
}

func parseCheckLoss(args []string, stdout io.Writer) (o lossOptions, err error) {
	fs := flag.NewFlagSet("check-loss", flag.ContinueOnError)
	fs.StringVar(&o.Load.URL, "database-url", "", "the CRM's Postgres, as a `URL`; a role that may INSERT, SELECT and DELETE, with --changes UPDATE too (default $DATABASE_URL, or the file that $DATABASE_URL_FILE names)")
	fs.StringVar(&o.Load.Table, "table", "notifications", "the CRM's `TABLE`, with the reference CRM's columns")
	gateways := fs.String("gateways", "", "stream `URLs` between which the clients hop, separated by commas; required")
	users := fs.String("users", "", "`IDs` of recipients to write for, separated by commas; they must exist; required without --token-file")
	tokens := fs.String("token-file", "", "`FILE` with a line \"ID TOKEN\" for each recipient; without it tokens are minted with $GATEWAY_JWT_SECRET, or with the file that $GATEWAY_JWT_SECRET_FILE names")
	fs.IntVar(&o.Load.Writers, "writers", 12, "sessions that write at the same time")
	fs.Float64Var(&o.Load.Rate, "rate", 500, "rows a second that all writers together may write; 0: no limit")
	fs.DurationVar(&o.Load.Pause, "pause", 2*time.Second, "the longest that a transaction stays open without doing anything")
	fs.BoolVar(&o.Load.Changes, "changes", false, "also mark rows as read and delete them, and see that every client shows what is unread; the table must be attached with --on-update is_read --on-delete")
	fs.IntVar(&o.Clients, "clients", 4, "streams of each user")
	fs.DurationVar(&o.Duration, "duration", 20*time.Second, "how long to write")
	fs.DurationVar(&o.Hop, "hop", 2*time.Second, "mean time that a client stays before it hops; 0: until the stream breaks")
	fs.DurationVar(&o.Terminate, "terminate-backends", 0, "`INTERVAL` at which sessions of the gateways and of the writers are terminated; 0: never")
	fs.DurationVar(&o.Settle, "settle", 20*time.Second, "how long to wait for stragglers while none comes")
	fs.IntVar(&o.maxResets, "max-resets", -1, "more reset events than this are a failure; negative: any number is allowed")
	fs.BoolVar(&o.keep, "keep", false, "leave the rows in the table also when nothing is missing")
	fs.BoolVar(&o.json, "json", false, "report as JSON")
	if err := parseFlags(fs, "bench check-loss --gateways URL,URL --users 5,7 [flags]", args, stdout); err != nil {
		return o, err
	}
	if o.Load.URL, err = databaseURL(o.Load.URL); err != nil {
		return o, usageError{err}
	}
	for _, address := range strings.Split(*gateways, ",") {
		if u, err := url.Parse(address); err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
			return o, usageError{fmt.Errorf("--gateways: %q is no http or https URL", address)}
		}
		o.Gateways = append(o.Gateways, address)
	}
	switch {
	case o.Load.URL == "":
		err = errors.New("--database-url: required, or set DATABASE_URL")
	case o.Load.Writers < 1 || o.Clients < 1:
		err = errors.New("--writers, --clients: must be positive")
	case o.Load.Rate < 0 || o.Load.Pause < 0 || o.Hop < 0 || o.Terminate < 0:
		err = errors.New("--rate, --pause, --hop, --terminate-backends: must not be negative")
	case o.Duration <= 0 || o.Settle <= 0:
		err = errors.New("--duration, --settle: must be positive")
	case (*tokens == "") == (*users == ""):
		err = errors.New("--users, --token-file: one of them is required")
	case *tokens != "":
		o.Recipients, err = readTokens(*tokens)
	default:
		o.Recipients, err = mintRecipients(*users, o.Duration+time.Hour)
	}
	if err != nil {
		return o, usageError{err}
	}
	for _, r := range o.Recipients {
		o.Load.Users = append(o.Load.Users, r.User)
	}
	return o, nil
}

func parseUser(text string) (int64, error) {
	user, err := strconv.ParseInt(text, 10, 64)
	if err != nil || user < 1 {
		return 0, fmt.Errorf("%q is no ID of a recipient", text)
	}
	return user, nil
}

func readTokens(name string) (all []losscheck.Recipient, err error) {
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("--token-file: %w", err)
	}
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		if len(fields) == 0 {
			continue
		}
		user, err := parseUser(fields[0])
		if err != nil || len(fields) != 2 {
			return nil, errors.New(`--token-file: a line is not "ID TOKEN"`)
		}
		all = append(all, losscheck.Recipient{User: user, Token: fields[1]})
	}
	if len(all) == 0 {
		return nil, errors.New("--token-file: no token")
	}
	return all, nil
}

// mintRecipients makes tokens as the gateway's environment asks for them.
func mintRecipients(users string, life time.Duration) (all []losscheck.Recipient, err error) {
	s, err := newSigner("")
	if err == nil && s == nil {
		err = errors.New("GATEWAY_JWT_SECRET, GATEWAY_JWT_SECRET_FILE: one of them is required without --token-file")
	}
	if err != nil {
		return nil, err
	}
	for _, text := range strings.Split(users, ",") {
		user, err := parseUser(text)
		if err != nil {
			return nil, fmt.Errorf("--users: %w", err)
		}
		token, err := s.token(user, life)
		if err != nil {
			return nil, err
		}
		all = append(all, losscheck.Recipient{User: user, Token: token})
	}
	return all, nil
}
