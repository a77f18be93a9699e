package schema

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// AttachScript returns what Attach does as a script, for another tool to run. The
// table need not be there yet: it is looked up when the script runs, and so are
// the numbers of its columns. It returns an error where options contradict each
// other.
func AttachScript(options AttachOptions, how ScriptOptions) (string, error) {
	if err := options.validate(); err != nil {
		return "", err
	}
	c, columns := unknownColumns(options)
	if options.Record { // a trigger of the table's own knows its columns
		c, columns = capture{}, nil
	}
	plain := triggersOf(c, options)
	c.parted = true
	parted := triggersOf(c, options)
	name := quoteLiteral(options.Table)
	var keys []string // by number in columns
	for i := range min(len(columns), len(c.users)+1) {
		keys = append(keys, fmt.Sprintf("numbers[%d]", i+1))
	}
	var steps strings.Builder
	fmt.Fprintf(&steps, `  IF target IS NULL THEN
    RAISE EXCEPTION 'there is no table %%', %s;
  END IF;
  FOR member IN
    WITH RECURSIVE family (oid) AS (SELECT target
      UNION SELECT i.inhrelid FROM family f JOIN pg_inherits i ON i.inhparent = f.oid JOIN pg_class c ON c.oid = i.inhrelid AND c.relkind = 'r' AND NOT c.relispartition)
    SELECT f.oid FROM family f
  LOOP
    numbers := '{}';
    FOREACH wanted IN ARRAY %s LOOP
      SELECT a.attnum INTO number FROM pg_attribute a WHERE a.attrelid = member AND a.attname = wanted AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated <> 'v';
      IF number IS NULL THEN
        RAISE EXCEPTION 'table %% has no column %% that a trigger can read', member, wanted;
      END IF;
      numbers := numbers || number;
    END LOOP;
    IF EXISTS (SELECT FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid WHERE a.attrelid = member AND a.attnum = ANY (ARRAY[%s]::int2[]) AND t.typname = 'citext') THEN
      RAISE EXCEPTION 'columns of table %% are citext: the database takes Ann and ann for one value, the gateway for two', member;
    END IF;
`, name, textArray(columns), strings.Join(keys, ", "))
	if options.DueColumn != "" {
		fmt.Fprintf(&steps, `    IF NOT EXISTS (SELECT FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid WHERE a.attrelid = member AND a.attnum = numbers[%d] AND t.typname IN ('timestamptz', 'timestamp', 'date')) THEN
      RAISE EXCEPTION 'column %% of table %% is no timestamptz, timestamp or date', %s, member;
    END IF;
`, len(columns), quoteLiteral(options.DueColumn))
	}
	if options.Prefix == "" && !options.Record {
		steps.WriteString(strings.ReplaceAll(`    IF member = target AND EXISTS (SELECT FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid WHERE a.attrelid = member AND a.attnum = `+keys[len(keys)-1]+` AND t.typname IN ('int2', 'int4', 'int8', 'numeric'))
      AND EXISTS (SELECT FROM pg_trigger t WHERE t.tgname = 'NAME' AND t.tgparentid = 0 AND t.tgrelid <> target)
      AND NOT EXISTS (SELECT FROM pg_trigger t WHERE t.tgname = 'NAME' AND t.tgrelid = target)
      AND NOT EXISTS (SELECT FROM pg_trigger t JOIN pg_inherits i ON i.inhrelid = t.tgrelid AND i.inhparent = target WHERE t.tgname = 'NAME')
    THEN
      RAISE EXCEPTION 'another table is attached already, and integer IDs of two tables overlap: % needs a prefix before its IDs', member;
    END IF;
`, "NAME", triggerName))
	}
	if slices.EqualFunc(plain, parted, func(a, b trigger) bool { return a.function == b.function }) {
		putSteps(&steps, plain, len(columns))
	} else {
		steps.WriteString("    IF EXISTS (SELECT FROM pg_class c WHERE c.oid = member AND c.relkind = 'p') THEN\n")
		putSteps(&steps, parted, len(columns))
		steps.WriteString("    ELSE\n")
		putSteps(&steps, plain, len(columns))
		steps.WriteString("    END IF;\n")
	}
	steps.WriteString(`  END LOOP;
  FOR hidden IN ` + hiddenTablesSQL("'"+triggerName+"'") + `
  LOOP
    RAISE WARNING 'row-level security hides the rows of % from the feed; as its owner run: ` + policy("%") + `', hidden, hidden;
  END LOOP;
`)
	return script(how, options.Table, "  member regclass;\n  wanted name;\n  number int2;\n  numbers int2[];\n  hidden regclass;\n", steps.String()), nil
}

// putSteps writes what putTriggers does.
func putSteps(steps *strings.Builder, wanted []trigger, columns int) {
	if same := sameTriggers(wanted, columns); same != "" {
		steps.WriteString("    CONTINUE WHEN " + same + ";\n")
	}
	for _, q := range attachStatements("\x010\x02", wanted) {
		fmt.Fprintf(steps, "    EXECUTE %s;\n", formatted(q, columns))
	}
}

// unknownColumns returns what options capture of a table that is not there yet.
// The numbers of its columns are negative: their places in columns, from 1.
func unknownColumns(options AttachOptions) (c capture, columns []string) {
	next := func(name string) column {
		columns = append(columns, name)
		return column{name: name, number: int16(-len(columns))}
	}
	c = capture{prefix: options.Prefix != "", lead: options.PrefixUser}
	for _, name := range options.UserColumns {
		c.users = append(c.users, next(name))
	}
	c.id = next(options.IDColumn)
	for _, name := range options.OnUpdate {
		c.told = append(c.told, next(name))
	}
	if options.DueColumn != "" {
		c.due = next(options.DueColumn)
	}
	return c, columns
}

var marked = regexp.MustCompile("\x01([0-9]+)\x02")

// formatted is a call of format() that puts the table and the numbers of the
// columns where text has marks for them.
func formatted(text string, columns int) string {
	text = strings.ReplaceAll(text, "%", "%%")
	text = marked.ReplaceAllStringFunc(text, func(mark string) string {
		var n int
		fmt.Sscanf(mark[1:], "%d", &n)
		return fmt.Sprintf("%%%d$s", n+1)
	})
	arguments := []string{quoteLiteral(text), "member"}
	for i := range columns {
		arguments = append(arguments, fmt.Sprintf("numbers[%d]", i+1))
	}
	return "format(" + strings.Join(arguments, ", ") + ")"
}

// sameTriggers is an expression that holds where the table has just the triggers
// that are wanted. Empty where one has a condition, which is not compared.
func sameTriggers(wanted []trigger, columns int) string {
	var each, names []string
	for _, name := range triggerNames() {
		names = append(names, quoteLiteral(name))
	}
	for _, w := range wanted {
		if w.when != "" {
			return ""
		}
		arguments := formatted(strings.Join(w.arguments, `\000`)+`\000`, columns)
		each = append(each, fmt.Sprintf("t.tgname = %s AND t.tgtype = %d AND t.tgenabled = %s AND t.tgfoid = 'notification_gateway.%s()'::regprocedure AND t.tgqual IS NULL AND encode(t.tgargs, 'escape') = %s",
			quoteLiteral(w.name), w.kind(), quoteLiteral(w.enabled()), w.function, arguments))
	}
	return fmt.Sprintf("(SELECT count(*) = %d AND count(*) FILTER (WHERE %s) = %[1]d FROM pg_trigger t WHERE t.tgrelid = member AND t.tgname IN (%[3]s))",
		len(wanted), strings.Join(each, " OR "), strings.Join(names, ", "))
}

// textArray writes names as an array of SQL.
func textArray(names []string) string {
	quoted := make([]string, len(names))
	for i, n := range names {
		quoted[i] = quoteLiteral(n)
	}
	return "ARRAY[" + strings.Join(quoted, ", ") + "]::name[]"
}
