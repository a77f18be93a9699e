package schema

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/seed-64e334f9/notification-gateway/store/internal/pg"
	"github.com/seed-64e334f9/notification-gateway/store/internal/view"
)

// Finding is one line of the doctor's report: what was looked at, whether it
// holds, what was seen, and, when it does not hold or the operator should know
// something all the same, what to do.
type Finding struct {
	Name   string `json:"name"`
	OK     bool   `json:"ok"`
	Detail string `json:"detail"`
	Mend   string `json:"mend,omitempty"`
}

const (
	checkDeadline = 5 * time.Second // for each question
	clockSkew     = 5 * time.Second // past it cursors and tokens are judged wrongly
)

// check is one thing that is looked at: what it sees, or what is wrong with it.
type check struct {
	name, mend string
	at         func(context.Context) (string, error)
}

// CheckOptions says what Check looks at.
type CheckOptions struct {
	URL       string // connection string for queries; its role's rights are what counts
	ListenURL string // direct connection for LISTEN; empty is URL
	Lookup    bool   // recipients come from the view identity, not from the claim
	Auto      bool   // recipients come from the view identity where it is there

	ReplayLimit int // unread notifications that a client gets at the most; 0: do not look whether somebody has more
}

// Check looks at everything that a gateway with these options needs of
// Postgres. It changes nothing except the row that marks this life of the server.
func Check(ctx context.Context, options CheckOptions) []Finding {
	_, dropped, _ := pg.ParseURL(options.URL) // Connect says what is wrong with it
	conn, err := pg.Connect(ctx, options.URL)
	if err != nil {
		return []Finding{{Name: "postgres", Detail: err.Error(), Mend: "check DATABASE_URL, the network and pg_hba.conf"}}
	}
	defer conn.Close(ctx)
	if options.Auto {
		// Without the schema the checks below say so.
		err := conn.QueryRow(ctx, "SELECT to_regclass('notification_gateway.identity') IS NOT NULL").Scan(&options.Lookup)
		options.Lookup = options.Lookup && err == nil
	}
	d := doctor{conn: conn, dropped: dropped, listenURL: cmp.Or(options.ListenURL, options.URL), lookup: options.Lookup, auto: options.Auto, limit: options.ReplayLimit}
	checks := []check{
		{"postgres", "point DATABASE_URL at the primary (or name several hosts with target_session_attrs=read-write), and let its sessions write", d.primary},
		{"listen", "point GATEWAY_LISTEN_DATABASE_URL past the pooler, straight at Postgres; until then the gateway polls, which loses nothing but is slower", d.listen},
		{"objects", "run gateway migrate", d.objects},
		{"trigger", "run gateway attach TABLE, with --user-column and --id-column where they are not user_id and id", d.trigger},
		{"changes", "run gateway migrate", d.changes},
		{"security", "", d.security},
		{"feed", "mend the mapping, then run gateway migrate --mapping FILE", d.feed},
		{"sample", "run SELECT * FROM notification_gateway.feed LIMIT 1, mend the mapping, then run gateway migrate --mapping FILE", d.sample},
		{"grants", "run gateway migrate --grant-to ROLE", d.grants},
		{"clock", "let both machines follow NTP", d.clock},
		{"functions", "", d.paths},
		{"columns", "run gateway attach TABLE --user-column C --id-column C with the columns that the view feed selects as user_key and id, or mend the mapping", d.columns},
	}
	if options.Lookup {
		checks = append(checks, check{"identity", "write the view identity into the mapping, see sql/README.md, then run gateway migrate --mapping FILE; or set GATEWAY_RECIPIENT=claim", d.identity})
	} else {
		checks = append(checks, check{"recipient", "", d.recipient})
	}
	if options.ReplayLimit > 0 {
		checks = append(checks, check{"unread", "", d.unread})
	}
	var out []Finding
	for _, l := range checks {
		asking, cancel := context.WithTimeout(ctx, checkDeadline)
		detail, err := l.at(asking)
		cancel()
		f := Finding{Name: l.name, OK: err == nil, Detail: detail}
		var advised *advisedError
		switch {
		case errors.As(err, &advised):
			f.OK, f.Detail, f.Mend = advised.ok, advised.what, advised.mend
		case err != nil:
			f.Detail, f.Mend = err.Error(), cmp.Or(mend(err), l.mend)
		}
		out = append(out, f)
	}
	return out
}

// advisedError is what a check found, with what to do about it. With ok the check
// holds, and the advice is a warning.
type advisedError struct {
	ok         bool
	what, mend string
}

func (e *advisedError) Error() string { return e.what }

// errNewer says that it is not the objects that are to be brought up to date.
var errNewer = errors.New("a newer gateway has migrated them")

// deniedSchema finds the schema that the owner of the objects may not use, such as
// that of a table which a function of the mapping reads.
var deniedSchema = regexp.MustCompile(`permission denied for schema ([^\s"]+)`)

// mend is what to do about an error whatever was looked at, or empty.
func mend(err error) string {
	if errors.Is(err, errNewer) {
		return "replace this gateway by that one; until then it works on"
	}
	if schema := deniedSchema.FindStringSubmatch(err.Error()); schema != nil && pg.SQLState(err) == pg.InsufficientPrivilege && schema[1] != "notification_gateway" {
		return fmt.Sprintf("as its owner run: GRANT USAGE ON SCHEMA %s TO notification_gateway_owner;", pgx.Identifier{schema[1]}.Sanitize())
	}
	return map[string]string{
		pg.InsufficientPrivilege: "run gateway migrate --grant-to ROLE; where it is a table of the CRM's that is denied, GRANT SELECT on it TO notification_gateway_owner",
		pg.InvalidSchema:         "run gateway migrate --mapping NAME|FILE and gateway attach TABLE",
	}[pg.SQLState(err)]
}

type doctor struct {
	conn      asker
	listenURL string
	dropped   []string // parameters of the connection string that have no effect
	lookup    bool     // recipients come from the view identity
	auto      bool     // that is so because the view is there
	limit     int      // unread notifications that a client gets at the most
}

func (d doctor) primary(ctx context.Context) (string, error) {
	var standby, readOnly bool
	var version string
	if err := d.conn.QueryRow(ctx, `SELECT pg_is_in_recovery(), current_setting('default_transaction_read_only')::boolean,
		current_setting('server_version')`).Scan(&standby, &readOnly, &version); err != nil {
		return "", err
	}
	switch {
	case standby:
		return "", errors.New("this server is a standby")
	case readOnly:
		return "", errors.New("default_transaction_read_only is on for this server, database or role")
	}
	if len(d.dropped) > 0 {
		return "", &advisedError{ok: true, what: "primary, version " + version + "; of DATABASE_URL these parameters have no effect: " + strings.Join(d.dropped, ", "), mend: "take them out of the gateway's DATABASE_URL"}
	}
	return "primary, version " + version, nil
}

// listen proves that a notification sent by one connection arrives at
// another: behind a pooler in transaction mode it does not.
func (d doctor) listen(ctx context.Context) (string, error) {
	listener, err := pg.Connect(ctx, d.listenURL)
	if err != nil {
		return "", err
	}
	defer listener.Close(ctx)
	const probe = "notification_gateway_check"
	if _, err := listener.Exec(ctx, "LISTEN "+probe); err != nil {
		if pg.SQLState(err) == pg.ReadOnly {
			return "", &advisedError{what: "GATEWAY_LISTEN_DATABASE_URL is a standby, where LISTEN is not possible", mend: "point it at the primary"}
		}
		return "", err
	}
	const whichSQL = "SELECT format('database %s of the server that started at %s', current_database(), pg_postmaster_start_time())"
	var here, there string
	if err := d.conn.QueryRow(ctx, whichSQL).Scan(&here); err != nil {
		return "", err
	}
	if err := listener.QueryRow(ctx, whichSQL).Scan(&there); err != nil {
		return "", err
	}
	if here != there {
		return "", &advisedError{what: "GATEWAY_LISTEN_DATABASE_URL is " + there + ", DATABASE_URL is " + here, mend: "point both at the same database of the primary"}
	}
	began := time.Now()
	if _, err := d.conn.Exec(ctx, "SELECT pg_notify($1::text, ''::text)", probe); err != nil {
		return "", err
	}
	if err := listener.WaitForNotification(ctx); err != nil {
		return "", errors.New("a notification did not arrive: LISTEN does not work on this connection (a pooler in transaction mode?)")
	}
	return fmt.Sprintf("a notification took %v", time.Since(began).Round(10*time.Microsecond)), nil
}

func (d doctor) objects(ctx context.Context) (string, error) {
	all, err := migrations()
	if err != nil {
		return "", err
	}
	var version int
	if err := d.conn.QueryRow(ctx, "SELECT coalesce(max(version), 0) FROM notification_gateway.migration").Scan(&version); err != nil {
		return "", err
	}
	if newest := all[len(all)-1].version; version != newest {
		err := fmt.Errorf("the objects are at version %d, this gateway wants %d", version, newest)
		if version > newest {
			err = fmt.Errorf("%w: %w", err, errNewer)
		}
		return "", err
	}
	if err := d.functions(ctx); err != nil {
		return "", err
	}
	return fmt.Sprintf("version %d", version), nil
}

func (d doctor) grants(ctx context.Context) (string, error) {
	var role, missing string
	err := d.conn.QueryRow(ctx, `SELECT current_user::text, concat_ws(', ',
		CASE WHEN NOT has_schema_privilege('notification_gateway', 'USAGE') THEN 'USAGE on the schema' END,
		CASE WHEN NOT has_table_privilege('notification_gateway.log', 'SELECT') THEN 'SELECT on log' END,
		CASE WHEN NOT has_table_privilege('notification_gateway.feed', 'SELECT') THEN 'SELECT on feed' END,
		CASE WHEN to_regclass('notification_gateway.identity') IS NOT NULL
			AND NOT has_table_privilege('notification_gateway.identity', 'SELECT') THEN 'SELECT on identity' END,
		CASE WHEN NOT has_function_privilege('notification_gateway.hello()', 'EXECUTE') THEN 'EXECUTE on hello()' END,
		CASE WHEN NOT has_function_privilege('notification_gateway.prune(interval, integer)', 'EXECUTE') THEN 'EXECUTE on prune()' END)`).Scan(&role, &missing)
	if err != nil {
		return "", err
	}
	if missing != "" {
		return "", fmt.Errorf("role %s lacks %s", role, missing)
	}
	return "role " + role + " has what it needs", nil
}

// recipient compares what a token's claim is taken for, where it is not looked up,
// with the view identity. Where the view gives a subject another recipient, one of
// the two is wrong: users would get what is for somebody else.
func (d doctor) recipient(ctx context.Context) (string, error) {
	var subject, userKey string
	err := d.conn.QueryRow(ctx, view.OtherRecipientSQL).Scan(&subject, &userKey)
	if err != nil { // no such row, no such view, or no right to it, which the grants say
		return "a token's user is the recipient (GATEWAY_RECIPIENT=claim)", nil
	}
	return "", &advisedError{
		what: fmt.Sprintf("GATEWAY_RECIPIENT=claim gives a token for %s what is for %[1]s, and the view identity gives it what is for %s", subject, userKey),
		mend: "set GATEWAY_RECIPIENT=auto; or, where the tokens name recipients and not the subjects of the view, drop the view identity",
	}
}

func (d doctor) clock(ctx context.Context) (string, error) {
	before := time.Now()
	var there time.Time
	if err := d.conn.QueryRow(ctx, "SELECT clock_timestamp()").Scan(&there); err != nil {
		return "", err
	}
	half := time.Since(before) / 2
	skew := there.Sub(before.Add(half)).Abs()
	if skew > clockSkew {
		return "", fmt.Errorf("the server's clock differs by %v", skew.Round(time.Millisecond))
	}
	return fmt.Sprintf("differs by %v", skew.Round(time.Microsecond)), nil
}
