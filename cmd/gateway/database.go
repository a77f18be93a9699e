package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/seed-64e334f9/notification-gateway/sql"
	"github.com/seed-64e334f9/notification-gateway/store"
)

// migrate installs or upgrades the database objects.
func migrate(ctx context.Context, args []string, stdout, _ io.Writer) error {
	fs := flag.NewFlagSet("migrate", flag.ContinueOnError)
	mapping := textFlag(fs, "mapping", "apply a mapping: `NAME|FILE`; reference_crm is built in")
	grantTo := textFlag(fs, "grant-to", "give the gateway's run-time `ROLE` its rights")
	printOnly := fs.Bool("print", false, "write the SQL instead of running it")
	if _, err := parseFlags(fs, "gateway migrate [--mapping NAME|FILE] [--grant-to ROLE] [--print]", args, 0, stdout); err != nil {
		return err
	}
	options := store.MigrateOptions{MappingName: *mapping, GrantTo: *grantTo}
	switch *mapping {
	case "":
	case "reference_crm":
		options.Mapping = sql.MappingReferenceCRM
	default:
		text, err := os.ReadFile(*mapping)
		if err != nil {
			return usageError{fmt.Errorf("--mapping %s: no built-in mapping and no file that can be read: %w", *mapping, errors.Unwrap(err))}
		}
		if options.Mapping = string(text); strings.TrimSpace(options.Mapping) == "" {
			return usageError{fmt.Errorf("--mapping %s: the file is empty", *mapping)}
		}
	}
	if *printOnly {
		script, err := store.MigrationScript(options)
		if err != nil {
			return err
		}
		_, err = io.WriteString(stdout, script)
		return err
	}
	c, err := databaseConfig()
	if err != nil {
		return err
	}
	done, err := store.Migrate(ctx, c.DatabaseURL, options)
	if err != nil {
		return err
	}
	if len(done) == 0 {
		done = []string{"nothing to do: the objects are up to date"}
	}
	for _, line := range done {
		fmt.Fprintln(stdout, line)
	}
	return nil
}

// attach puts the capture trigger on the CRM's table.
func attach(ctx context.Context, args []string, stdout, _ io.Writer) error {
	fs := flag.NewFlagSet("attach", flag.ContinueOnError)
	user := fs.String("user-column", "user_id", "the `COLUMN` that names the recipient")
	id := fs.String("id-column", "id", "the `COLUMN` that names the notification")
	rest, err := parseFlags(fs, "gateway attach TABLE [--user-column user_id] [--id-column id]", args, 1, stdout)
	if err != nil {
		return err
	}
	c, err := databaseConfig()
	if err != nil {
		return err
	}
	if err := store.Attach(ctx, c.DatabaseURL, store.AttachOptions{Table: rest[0], UserColumn: *user, IDColumn: *id}); err != nil {
		return err
	}
	fmt.Fprintf(stdout, "attached to %s\n", rest[0])
	return nil
}

// detach takes the capture trigger off.
func detach(ctx context.Context, args []string, stdout, _ io.Writer) error {
	rest, err := parseFlags(flag.NewFlagSet("detach", flag.ContinueOnError), "gateway detach TABLE", args, 1, stdout)
	if err != nil {
		return err
	}
	c, err := databaseConfig()
	if err != nil {
		return err
	}
	had, err := store.Detach(ctx, c.DatabaseURL, rest[0])
	if err != nil {
		return err
	}
	if had {
		fmt.Fprintf(stdout, "detached from %s\n", rest[0])
	} else {
		fmt.Fprintf(stdout, "%s had no trigger of ours\n", rest[0])
	}
	return nil
}

func databaseConfig() (config, error) {
	c, err := readConfig()
	if err == nil {
		err = c.validateDatabase()
	}
	if err != nil {
		return c, usageError{err}
	}
	return c, nil
}
