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
	"github.com/seed-64e334f9/notification-gateway/store/schema"
)

// migrate installs or upgrades the database objects.
func migrate(ctx context.Context, args []string, stdout, _ io.Writer) error {
	fs := flag.NewFlagSet("migrate", flag.ContinueOnError)
	mapping := textFlag(fs, "mapping", "apply a mapping: `NAME|FILE`; reference_crm is built in")
	grantTo := textFlag(fs, "grant-to", "give the gateway's run-time `ROLE` its rights")
	printed := printFlags(fs)
	from := fs.Int("from", 0, "with --print: begin after version `N`, which must be there")
	if _, err := parseFlags(fs, "gateway migrate [--mapping NAME|FILE] [--grant-to ROLE] [--print [--no-transaction] [--from N]]", args, 0, stdout); err != nil {
		return err
	}
	how, err := printed.options(*from)
	if err != nil {
		return err
	}
	options := schema.MigrateOptions{MappingName: *mapping, GrantTo: *grantTo}
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
	if how != nil {
		script, err := schema.MigrationScript(options, *how)
		if err != nil {
			return usageError{err}
		}
		_, err = io.WriteString(stdout, script)
		return err
	}
	c, err := databaseConfig()
	if err != nil {
		return err
	}
	done, err := schema.Migrate(ctx, c.DatabaseURL, options)
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

// databaseConfig reads the configuration of a command that needs the database
// alone.
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

// printed are the flags of a command that can write its SQL instead.
type printed struct{ print, noTransaction *bool }

func printFlags(fs *flag.FlagSet) printed {
	return printed{
		print:         fs.Bool("print", false, "write the SQL instead of running it; run again it changes nothing"),
		noTransaction: fs.Bool("no-transaction", false, "with --print: leave BEGIN and COMMIT out, for the transaction of another tool, whose role and search_path stay as they were"),
	}
}

// options returns how to write the SQL, nil where it is to be run.
func (p printed) options(from int) (*schema.ScriptOptions, error) {
	if *p.print {
		return &schema.ScriptOptions{NoTransaction: *p.noTransaction, From: from}, nil
	}
	if *p.noTransaction || from != 0 {
		return nil, usageError{errors.New("--no-transaction and --from go with --print")}
	}
	return nil, nil
}
