package schema

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// The triggers' names, the same on every table.
const (
	triggerName  = "notification_gateway_capture"  // INSERT
	updateName   = "notification_gateway_update"   // UPDATE of what is a notification and stays one
	beginName    = "notification_gateway_begin"    // UPDATE after which --when holds
	ceaseName    = "notification_gateway_cease"    // UPDATE after which --when does not hold any more
	deleteName   = "notification_gateway_delete"   // DELETE
	truncateName = "notification_gateway_truncate" // TRUNCATE
	movedName    = "notification_gateway_moved"    // DELETE in a partitioned table, which may be half of a move to another partition
	recordName   = "notification_gateway_record"   // never fires: it says that the table feeds through record()
)

func triggerNames() []string {
	return []string{triggerName, updateName, beginName, ceaseName, deleteName, truncateName, movedName, recordName}
}

// trigger is one trigger of ours as it should be.
type trigger struct {
	name      string
	event     string // INSERT, UPDATE, DELETE or TRUNCATE
	when      string // SQL; empty: for every row
	function  string // capture, capture_row or moved
	arguments []string
	disabled  bool
}

// kind is what pg_trigger.tgtype holds of it: bits for a row trigger and for the
// event (https://www.postgresql.org/docs/current/catalog-pg-trigger.html).
func (t trigger) kind() int16 {
	return map[string]int16{"INSERT": 1 | 1<<2, "DELETE": 1 | 1<<3, "UPDATE": 1 | 1<<4, "TRUNCATE": 1 << 5}[t.event]
}

// enabled is what pg_trigger.tgenabled holds of it.
func (t trigger) enabled() string {
	if t.disabled {
		return "D"
	}
	return "A"
}

// create returns the statements that make it.
func (t trigger) create(table string) []string {
	level, when := " FOR EACH ROW", ""
	if t.event == "TRUNCATE" {
		level = ""
	}
	if t.when != "" {
		when = " WHEN (" + t.when + ")"
	}
	arguments := make([]string, len(t.arguments))
	for i, a := range t.arguments {
		arguments[i] = quoteLiteral(a)
	}
	state := "ENABLE ALWAYS"
	if t.disabled {
		state = "DISABLE"
	}
	return []string{
		fmt.Sprintf("CREATE TRIGGER %s AFTER %s ON %s%s%s EXECUTE FUNCTION notification_gateway.%s(%s)", t.name, t.event, table, level, when, t.function, strings.Join(arguments, ", ")),
		fmt.Sprintf("ALTER TABLE %s %s TRIGGER %s", table, state, t.name),
	}
}

// attachStatements take all triggers of ours off a table, and put the wanted ones
// on it.
func attachStatements(table string, wanted []trigger) []string {
	var all []string
	for _, name := range triggerNames() {
		all = append(all, fmt.Sprintf("DROP TRIGGER IF EXISTS %s ON %s", name, table))
	}
	for _, t := range wanted {
		all = append(all, t.create(table)...)
	}
	return all
}

// triggersOf returns the triggers that capture c as the options say. Where
// nothing but an INSERT is captured, of one column, capture() does it, which costs
// a row the least.
func triggersOf(c capture, o AttachOptions) []trigger {
	when := conditionOf(o.When)
	usual := ""
	if len(o.UserColumns) == 1 && o.UserColumns[0] == "user_id" && o.IDColumn == "id" {
		usual = "usual"
	}
	if o.Record {
		return []trigger{{name: recordName, event: "INSERT", function: "capture_row", arguments: []string{"record"}, disabled: true}}
	}
	row := func(name, event, found, when string) trigger {
		prefix, lead, deletes := "", "", ""
		if o.Prefix != "" {
			prefix = o.Prefix + ":"
		}
		if o.PrefixUser {
			lead = prefix
		}
		if o.OnDelete {
			deletes = "delete"
		}
		due, dueNumber := "", ""
		if o.DueColumn != "" {
			due, dueNumber = c.due.name, c.due.mark()
		}
		users, userNumbers := toArrays(c.users)
		told, toldNumbers := toArrays(c.told)
		arguments := []string{found, users, userNumbers, c.id.name, c.id.mark(), prefix, lead, told, toldNumbers, due, dueNumber, deletes, usual}
		if c.parted {
			arguments = append(arguments, "parted")
		}
		return trigger{name: name, event: event, when: when, function: "capture_row", arguments: arguments}
	}
	insert := row(triggerName, "INSERT", "begins", when.now)
	if len(c.users) == 1 && o.Prefix == "" && o.DueColumn == "" && !(c.parted && (o.OnDelete || len(o.OnUpdate) > 0)) {
		insert.function = "capture"
		insert.arguments = []string{c.users[0].name, c.id.name, c.users[0].mark(), c.id.mark()}
		if usual != "" {
			insert.arguments = append(insert.arguments, usual)
		}
	}
	all := []trigger{insert}
	if c.parted && insert.function == "capture" {
		if usual == "" {
			all[0].arguments = append(all[0].arguments, "")
		}
		all[0].arguments = append(all[0].arguments, "parted")
		all = append(all, trigger{name: movedName, event: "DELETE", function: "moved", arguments: []string{c.id.name, c.id.mark()}})
	}
	if len(o.OnUpdate) > 0 || o.DueColumn != "" {
		all = append(all, row(updateName, "UPDATE", "stays", when.stays()))
	}
	if o.When != "" {
		all = append(all,
			row(beginName, "UPDATE", "begins", when.begins()),
			row(ceaseName, "UPDATE", "ceases", when.ceases()))
	}
	if o.OnDelete || o.DueColumn != "" || c.parted && insert.function == "capture_row" { // a move is a DELETE and an INSERT
		all = append(all, row(deleteName, "DELETE", "ceases", when.before))
	}
	if len(o.OnUpdate) > 0 || o.OnDelete {
		all = append(all, trigger{name: truncateName, event: "TRUNCATE", function: "capture_row", arguments: []string{"truncate"}})
	}
	return all
}

// toArrays writes the names and the numbers of columns as arrays of SQL.
func toArrays(columns []column) (names, numbers string) {
	n, k := make([]string, len(columns)), make([]string, len(columns))
	for i, c := range columns {
		n[i] = `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(c.name) + `"`
		k[i] = c.mark()
	}
	return "{" + strings.Join(n, ",") + "}", "{" + strings.Join(k, ",") + "}"
}

// fromArray reads what toArrays wrote.
func fromArray(text string) []string {
	var all []string
	var one strings.Builder
	quoted, escaped := false, false
	for _, r := range strings.TrimSuffix(strings.TrimPrefix(text, "{"), "}") {
		switch {
		case escaped:
			one.WriteRune(r)
			escaped = false
		case r == '\\':
			escaped = true
		case r == '"':
			quoted = !quoted
		case r == ',' && !quoted:
			all = append(all, one.String())
			one.Reset()
		default:
			one.WriteRune(r)
		}
	}
	if one.Len() > 0 || len(all) > 0 {
		all = append(all, one.String())
	}
	return all
}

// haveTriggers reports whether a table has just the triggers that are wanted. A
// condition is not compared, so that a trigger with one is made anew.
func haveTriggers(ctx context.Context, tx pgx.Tx, table relation, wanted []trigger) (bool, error) {
	rows, err := tx.Query(ctx, `SELECT t.tgname::text, p.proname::text, t.tgargs, t.tgtype, t.tgenabled::text, t.tgqual IS NOT NULL
		FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid AND p.pronamespace = 'notification_gateway'::regnamespace
		WHERE t.tgrelid = $1 AND t.tgname = ANY ($2::name[]) AND t.tgparentid = 0`, table.oid, triggerNames())
	if err != nil {
		return false, fmt.Errorf("look for the triggers on %s: %w", table.name, err)
	}
	type found struct {
		Name, Function string
		Arguments      []byte
		Kind           int16
		Enabled        string
		Conditional    bool
	}
	all, err := pgx.CollectRows(rows, pgx.RowToStructByPos[found])
	if err != nil {
		return false, fmt.Errorf("look for the triggers on %s: %w", table.name, err)
	}
	same := len(all) == len(wanted)
	for _, f := range all {
		same = same && slices.ContainsFunc(wanted, func(w trigger) bool {
			return w.name == f.Name && w.function == f.Function && w.kind() == f.Kind && w.enabled() == f.Enabled && w.when == "" && !f.Conditional &&
				strings.Join(w.arguments, "\x00")+"\x00" == string(f.Arguments)
		})
	}
	return same, nil
}
