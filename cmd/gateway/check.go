package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/seed-64e334f9/notification-gateway/auth"
	"github.com/seed-64e334f9/notification-gateway/store/schema"
)

// check is the doctor: it reports a line for each thing that must hold.
func check(ctx context.Context, args []string, stdout, _ io.Writer) error {
	fs := flag.NewFlagSet("check", flag.ContinueOnError)
	asJSON := fs.Bool("json", false, "report as JSON")
	given := textFlag(fs, "token", "a `TOKEN` to try, - to read it from standard input; it is never printed")
	canary := fs.Bool("canary", false, "capture a notification that is nobody's, wait for it at a stream of a running gateway, and take it away again")
	at := textFlag(fs, "url", "where --canary finds the gateway, a `URL` such as https://crm.example; default GATEWAY_ADDR on this machine")
	if _, err := parseFlags(fs, "gateway check [--token T] [--canary [--url URL]] [--json]", args, 0, stdout); err != nil {
		return err
	}
	if *at != "" && !*canary {
		return usageError{errors.New("--url goes with --canary")}
	}
	c, err := databaseConfig()
	if err != nil {
		return err
	}
	if *given == "-" { // other users of the machine see a command's arguments
		text, err := io.ReadAll(io.LimitReader(os.Stdin, maxFile))
		if err != nil {
			return fmt.Errorf("read the token: %w", err)
		}
		if *given = strings.TrimSpace(string(text)); *given == "" {
			return usageError{errors.New("--token -: standard input is empty")}
		}
	}
	findings := append(checkVariables(c), schema.Check(ctx, schema.CheckOptions{
		URL: c.DatabaseURL, ListenURL: c.ListenDatabaseURL, Lookup: c.Recipient == "lookup", Auto: c.Recipient == "auto", ReplayLimit: c.ReplayLimit,
	})...)
	findings = append(findings, checkTokens(ctx, c, *given)...)
	if *canary {
		f, err := checkCanary(ctx, c, *at)
		if err != nil {
			return err
		}
		findings = append(findings, f)
	}
	bad := 0
	for _, f := range findings {
		if !f.OK {
			bad++
		}
	}
	if *asJSON {
		e := json.NewEncoder(stdout)
		e.SetIndent("", "  ")
		if err := e.Encode(findings); err != nil {
			return err
		}
	} else {
		for _, f := range findings {
			mark := "✔"
			if !f.OK {
				mark = "✘"
			}
			fmt.Fprintf(stdout, "%s %-9s %s\n", mark, f.Name, f.Detail)
			if f.Mend != "" {
				fmt.Fprintf(stdout, "            → %s\n", f.Mend)
			}
		}
	}
	if bad > 0 {
		return fmt.Errorf("%d of %d checks failed", bad, len(findings))
	}
	return nil
}

// checkVariables says whether serve would start with these variables, and which of
// them it does not read or reads as unset.
func checkVariables(c config) []schema.Finding {
	f := schema.Finding{Name: "variables", OK: true, Detail: "gateway serve takes them"}
	if err := c.validateTokens(); err == nil { // else checkTokens says so
		if err := c.validateServe(); err != nil {
			return []schema.Finding{{Name: f.Name, Detail: "gateway serve would not start: " + err.Error(), Mend: "set the variable that it names, see the table in deploy/README.md"}}
		}
	}
	var odd, mends []string
	if unknown := unknownVariables(); len(unknown) > 0 {
		slices.Sort(unknown)
		odd = append(odd, "not read: "+strings.Join(unknown, ", "))
		mends = append(mends, "look for a misspelt name")
	}
	if len(c.empty) > 0 {
		odd = append(odd, "set to nothing, so that the default holds: "+strings.Join(c.empty, ", "))
		mends = append(mends, "give a value to what is set to nothing, or take it out; a first version read it as an empty value")
	}
	if len(odd) > 0 {
		f.Detail, f.Mend = strings.Join(odd, "; "), strings.Join(mends, "; ")
	}
	return []schema.Finding{f}
}

// checkTokens looks at the keys, and at whom a token names or why it is refused.
func checkTokens(ctx context.Context, c config, given string) []schema.Finding {
	if err := c.validateTokens(); err != nil {
		return []schema.Finding{{Name: "keys", Detail: err.Error(), Mend: "set the variable that it names"}}
	}
	quiet := slog.New(slog.DiscardHandler)
	verifier, err := auth.New(c.verifier(quiet))
	if err != nil {
		return []schema.Finding{{Name: "keys", Detail: err.Error(), Mend: "check GATEWAY_JWT_SECRET and GATEWAY_JWKS_URL"}}
	}
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	out := []schema.Finding{{Name: "keys", OK: true, Detail: sharedSecrets(len(c.secrets))}}
	if c.JWKSFile != "" {
		out[0].Detail += ", keys of a file read"
	}
	if c.JWKSURL != "" {
		out[0].Detail += ", key set read"
		if err := verifier.Refresh(ctx); err != nil {
			out[0] = schema.Finding{Name: "keys", Detail: err.Error(), Mend: "check that GATEWAY_JWKS_URL is reachable from here and is a JWK Set"}
		}
	}
	out = append(out, checkLogin(ctx, c)...)
	if given == "" {
		return out
	}
	return append(out, checkToken(ctx, c, verifier, given))
}

func sharedSecrets(n int) string {
	if n == 1 {
		return "1 shared secret"
	}
	return fmt.Sprintf("%d shared secrets", n)
}
