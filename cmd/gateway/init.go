package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/seed-64e334f9/notification-gateway/store/schema"
)

// initMapping writes a first mapping for a table of the database.
func initMapping(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	fs := flag.NewFlagSet("init", flag.ContinueOnError)
	out := textFlag(fs, "out", "write the mapping to a new `FILE` instead of standard output")
	rest, err := parseFlags(fs, "gateway init [TABLE] [--out FILE]", args, atMostOne, stdout)
	if err != nil {
		return err
	}
	c, err := databaseConfig()
	if err != nil {
		return err
	}
	draft, err := schema.FirstMapping(ctx, c.DatabaseURL, strings.Join(rest, ""))
	if err != nil {
		return err
	}
	file := *out
	if file == "" {
		file = "mapping.sql"
	}
	next := nextCommands(draft, file)
	if len(draft.Others) > 0 {
		fmt.Fprintf(stderr, "%s looks most like notifications; also possible: %s\n", draft.Table, strings.Join(draft.Others, ", "))
	}
	text := draft.Mapping + "\n-- Next, as a role that owns the table (gateway_role is the gateway's own):\n--   " + strings.Join(next, "\n--   ") + "\n"
	if *out == "" {
		_, err = io.WriteString(stdout, text)
		return err
	}
	f, err := os.OpenFile(*out, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return usageError{fmt.Errorf("--out: %w", err)}
	}
	_, err = f.WriteString(text)
	if e := f.Close(); err == nil {
		err = e
	}
	if err != nil {
		return fmt.Errorf("write the mapping: %w", err)
	}
	fmt.Fprintf(stdout, "%s is a first mapping for %s: read it, then run\n", *out, draft.Table)
	for _, command := range next {
		fmt.Fprintf(stdout, "  %s\n", command)
	}
	return nil
}

// nextCommands are what follows a mapping in a file.
func nextCommands(d schema.Draft, file string) []string {
	attach := "gateway attach " + shellQuoted(d.Table)
	if d.User != "user_id" {
		attach += " --user-column " + shellQuoted(d.User)
	}
	if d.IDColumn != "id" {
		attach += " --id-column " + shellQuoted(d.IDColumn)
	}
	if d.Read != "" { // pages see what other tabs have read
		attach += " --on-update " + shellQuoted(d.Read)
	}
	return []string{
		"gateway migrate --mapping " + shellQuoted(file) + " --grant-to gateway_role", attach + " --on-delete", "gateway check",
	}
}

// shellQuoted writes a word as a POSIX shell takes it.
func shellQuoted(word string) string {
	if word != "" && strings.Trim(word, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./-") == "" {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}
