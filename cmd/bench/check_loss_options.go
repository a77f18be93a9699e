package main

import (
	"cmp"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/seed-64e334f9/notification-gateway/auth"
	"github.com/seed-64e334f9/notification-gateway/store/workload"
)

// lossOptions is what check-loss is asked to do.
type lossOptions struct {
	load       workload.Config
	gateways   []string // stream URLs
	recipients []recipient
	clients    int // for each recipient
	duration   time.Duration
	hop        time.Duration
	terminate  time.Duration // zero: never
	settle     time.Duration
	maxResets  int // negative: any
	keep, json bool
}

// recipient is a user and the token that names it.
type recipient struct {
	user  int64
	token string
}

func parseCheckLoss(args []string, stdout io.Writer) (o lossOptions, err error) {
	fs := flag.NewFlagSet("check-loss", flag.ContinueOnError)
	fs.StringVar(&o.load.URL, "database-url", "", "the CRM's Postgres, as a `URL`; a role that may INSERT, SELECT and DELETE (default $DATABASE_URL)")
	fs.StringVar(&o.load.Table, "table", "notifications", "the CRM's `TABLE`, with the reference CRM's columns")
	gateways := fs.String("gateways", "", "stream `URLs` between which the clients hop, separated by commas; required")
	users := fs.String("users", "", "`IDs` of recipients to write for, separated by commas; they must exist; required without --token-file")
	tokens := fs.String("token-file", "", "`FILE` with a line \"ID TOKEN\" for each recipient; without it tokens are minted with $GATEWAY_JWT_SECRET")
	fs.IntVar(&o.load.Writers, "writers", 12, "sessions that write at the same time")
	fs.Float64Var(&o.load.Rate, "rate", 500, "rows a second that all writers together may write; 0: no limit")
	fs.DurationVar(&o.load.Pause, "pause", 2*time.Second, "the longest that a transaction stays open without doing anything")
	fs.IntVar(&o.clients, "clients", 4, "streams of each user")
	fs.DurationVar(&o.duration, "duration", 20*time.Second, "how long to write")
	fs.DurationVar(&o.hop, "hop", 2*time.Second, "mean time that a client stays before it hops; 0: until the stream breaks")
	fs.DurationVar(&o.terminate, "terminate-backends", 0, "`INTERVAL` at which sessions of the gateways and of the writers are terminated; 0: never")
	fs.DurationVar(&o.settle, "settle", 20*time.Second, "how long to wait for stragglers while none comes")
	fs.IntVar(&o.maxResets, "max-resets", -1, "more reset events than this are a failure; negative: any number is allowed")
	fs.BoolVar(&o.keep, "keep", false, "leave the rows in the table also when nothing is missing")
	fs.BoolVar(&o.json, "json", false, "report as JSON")
	if err := parseFlags(fs, "bench check-loss --gateways URL,URL --users 5,7 [flags]", args, stdout); err != nil {
		return o, err
	}
	o.load.URL = cmp.Or(o.load.URL, os.Getenv("DATABASE_URL"))
	for _, address := range strings.Split(*gateways, ",") {
		if u, err := url.Parse(address); err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
			return o, usageError{fmt.Errorf("--gateways: %q is no http or https URL", address)}
		}
		o.gateways = append(o.gateways, address)
	}
	switch {
	case o.load.URL == "":
		err = errors.New("--database-url: required, or set DATABASE_URL")
	case o.load.Writers < 1 || o.clients < 1:
		err = errors.New("--writers, --clients: must be positive")
	case o.load.Rate < 0 || o.load.Pause < 0 || o.hop < 0 || o.terminate < 0:
		err = errors.New("--rate, --pause, --hop, --terminate-backends: must not be negative")
	case o.duration <= 0 || o.settle <= 0:
		err = errors.New("--duration, --settle: must be positive")
	case (*tokens == "") == (*users == ""):
		err = errors.New("--users, --token-file: one of them is required")
	case *tokens != "":
		o.recipients, err = readTokens(*tokens)
	default:
		o.recipients, err = mintRecipients(*users, o.duration+time.Hour)
	}
	if err != nil {
		return o, usageError{err}
	}
	for _, r := range o.recipients {
		o.load.Users = append(o.load.Users, r.user)
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

func readTokens(name string) (all []recipient, err error) {
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
		all = append(all, recipient{user, fields[1]})
	}
	if len(all) == 0 {
		return nil, errors.New("--token-file: no token")
	}
	return all, nil
}

// mintRecipients makes tokens as the gateway's environment asks for them.
func mintRecipients(users string, life time.Duration) (all []recipient, err error) {
	secret, _, _ := strings.Cut(os.Getenv("GATEWAY_JWT_SECRET"), ",")
	if secret == "" {
		return nil, errors.New("GATEWAY_JWT_SECRET: required without --token-file")
	}
	for _, text := range strings.Split(users, ",") {
		user, err := parseUser(text)
		if err != nil {
			return nil, fmt.Errorf("--users: %w", err)
		}
		claims, err := auth.Claims(cmp.Or(os.Getenv("GATEWAY_JWT_USER_CLAIM"), "user_id"), fmt.Sprint(user), life)
		if err != nil {
			return nil, fmt.Errorf("--users: %w", err)
		}
		for claim, variable := range map[string]string{"iss": "GATEWAY_JWT_ISSUER", "aud": "GATEWAY_JWT_AUDIENCE"} {
			if value := os.Getenv(variable); value != "" {
				claims[claim] = value
			}
		}
		token, err := auth.Mint([]byte(secret), claims)
		if err != nil {
			return nil, fmt.Errorf("mint a token: %w", err)
		}
		all = append(all, recipient{user, token})
	}
	return all, nil
}
