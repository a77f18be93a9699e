package storetest

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/seed-64e334f9/notification-gateway/store/throwaway"
)

// Traps are functions and operators that any role which may create in schema
// public could have made: for each name that our SQL uses, overloads whose
// argument types Postgres's own do not have. A statement that resolves names over
// public, and whose types are not exact, calls one of them.
type Traps struct{ db *throwaway.DB }

// PlantTraps makes them in the database at url. It may take some seconds.
func PlantTraps(tb testing.TB, url string) Traps {
	tb.Helper()
	db, err := throwaway.Open(tb.Context(), url)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(db.Close)
	names := calledNames(tb)
	if len(names) < 30 {
		tb.Fatalf("only %d functions were found in our SQL", len(names))
	}
	if err := db.Exec(tb.Context(), strings.Replace(trapSQL, "NAMES", "'{"+strings.Join(names, ",")+"}'", 1)); err != nil {
		tb.Fatal(err)
	}
	var functions, operators int
	if err := db.QueryRow(tb.Context(), []any{&functions, &operators}, `SELECT (SELECT count(*) FROM pg_proc WHERE pronamespace = 'public'::regnamespace),
		(SELECT count(*) FROM pg_operator WHERE oprnamespace = 'public'::regnamespace)`); err != nil || functions < 1000 || operators < 1000 {
		tb.Fatalf("%d functions and %d operators were planted, %v", functions, operators, err)
	}
	t := Traps{db}
	// A trap that nothing can spring proves nothing.
	if err := db.Exec(tb.Context(), "SELECT format_type(23::oid, NULL)"); err != nil || t.Sprung(tb) == "" {
		tb.Fatalf("the traps do not work: %v", err)
	}
	if err := db.Exec(tb.Context(), "SELECT 1::bigint = 'a'::\"char\""); err != nil || t.Sprung(tb) == "" {
		tb.Fatalf("the traps of operators do not work: %v", err)
	}
	return t
}

// Sprung returns the last trap that was called since the last time, empty when
// none was.
func (t Traps) Sprung(tb testing.TB) (what string) {
	tb.Helper()
	if err := t.db.QueryRow(tb.Context(), []any{&what}, `SELECT COALESCE((SELECT t.what FROM public.sprung s JOIN public.trap t
		ON t.number::pg_catalog.int8 OPERATOR(pg_catalog.=) s.last_value), ''::text)`); err != nil {
		tb.Fatal(err)
	}
	if err := t.db.Exec(tb.Context(), "SELECT pg_catalog.setval('public.sprung'::pg_catalog.regclass, 0::pg_catalog.int8)"); err != nil {
		tb.Fatal(err)
	}
	return what
}

// calledNames returns every identifier that stands before a parenthesis in the
// SQL of the repository, which is in .sql files and in the strings of .go files.
func calledNames(tb testing.TB) []string {
	tb.Helper()
	root, err := os.Getwd()
	for err == nil {
		if _, missing := os.Stat(filepath.Join(root, "go.mod")); missing == nil {
			break
		}
		if filepath.Dir(root) == root {
			tb.Fatal("the repository's root was not found")
		}
		root = filepath.Dir(root)
	}
	call := regexp.MustCompile(`([a-z_][a-z0-9_]*)\s*\(`)
	seen := map[string]bool{}
	var names []string
	for _, folder := range []string{"sql", "store", "cmd/bench"} {
		err := filepath.WalkDir(filepath.Join(root, folder), func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || strings.HasSuffix(path, "_test.go") || !strings.HasSuffix(path, ".go") && !strings.HasSuffix(path, ".sql") {
				return err
			}
			text, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			for _, m := range call.FindAllStringSubmatch(string(text), -1) {
				if !seen[m[1]] {
					seen[m[1]] = true
					names = append(names, m[1])
				}
			}
			return nil
		})
		if err != nil {
			tb.Fatal(err)
		}
	}
	return names
}

// trapSQL plants the traps. A call sets a sequence, which also counts in a
// transaction that is rolled back, to the trap's number.
const trapSQL = `
CREATE TABLE public.trap (number integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY, what text);
CREATE SEQUENCE public.sprung MINVALUE 0 START 0;
GRANT ALL ON public.trap, public.sprung TO PUBLIC;
GRANT USAGE ON SCHEMA public TO PUBLIC;
DO $plant$
DECLARE
  kinds CONSTANT regtype[] := '{text,varchar,bpchar,name,"\"char\"",smallint,integer,bigint,numeric,oid,regclass,boolean,jsonb,json,xid8,timestamptz,interval,uuid,text[]}';
  f record;
  arguments text;
  body text;
  l regtype;
  r regtype;
  n integer;
BEGIN
  FOR f IN
    SELECT DISTINCT ON (p.proname, changed.types) p.proname, p.proretset, p.prorettype::regtype AS result, changed.types
    FROM pg_proc p CROSS JOIN generate_series(1, p.pronargs) place CROSS JOIN unnest(kinds) kind
    CROSS JOIN LATERAL (SELECT array_agg(CASE WHEN a.n = place THEN kind ELSE a.type::regtype END ORDER BY a.n) AS types
      FROM unnest(p.proargtypes::oid[]) WITH ORDINALITY a (type, n)) changed
    WHERE p.pronamespace = 'pg_catalog'::regnamespace AND p.proname = ANY (NAMES::text[]) AND p.prokind IN ('f', 'a', 'w') AND p.pronargs BETWEEN 1 AND 4 AND p.provariadic = 0
      AND NOT EXISTS (SELECT FROM pg_proc o WHERE o.pronamespace = p.pronamespace AND o.proname = p.proname AND o.proargtypes::oid[] = changed.types::oid[])
  LOOP
    INSERT INTO public.trap (what) VALUES (format('function %s(%s)', f.proname, f.types)) RETURNING number INTO n;
    BEGIN
      EXECUTE format('CREATE FUNCTION public.%I(%s) RETURNS %s%s LANGUAGE plpgsql AS %L', f.proname,
        (SELECT string_agg(t.type::text, ', ') FROM unnest(f.types) t (type)), CASE WHEN f.proretset THEN 'SETOF ' ELSE '' END, f.result,
        format('BEGIN PERFORM pg_catalog.setval(%L::pg_catalog.regclass, %s::pg_catalog.int8); RETURN%s; END', 'public.sprung', n, CASE WHEN f.proretset THEN '' ELSE ' NULL' END));
    EXCEPTION WHEN OTHERS THEN NULL; -- pseudo-types
    END;
  END LOOP;
  FOREACH l IN ARRAY kinds LOOP
    FOREACH r IN ARRAY kinds LOOP
      FOREACH body IN ARRAY ARRAY['boolean', 'text'] LOOP
        INSERT INTO public.trap (what) VALUES (format('an operator of %s and %s', l, r)) RETURNING number INTO n;
        EXECUTE format('CREATE FUNCTION public.trap_%s(%s, %s) RETURNS %s LANGUAGE plpgsql AS %L', body, l, r, body,
          format('BEGIN PERFORM pg_catalog.setval(%L::pg_catalog.regclass, %s::pg_catalog.int8); RETURN NULL; END', 'public.sprung', n));
        FOREACH arguments IN ARRAY CASE body WHEN 'text' THEN '{||,->,->>,#>>,-,+,*,/}'::text[] ELSE '{=,<>,<,>,<=,>=,~,!~,~~}'::text[] END LOOP
          IF NOT EXISTS (SELECT FROM pg_operator o WHERE o.oprnamespace = 'pg_catalog'::regnamespace AND o.oprname = arguments AND o.oprleft = l AND o.oprright = r) THEN
            EXECUTE format('CREATE OPERATOR public.%s (LEFTARG = %s, RIGHTARG = %s, FUNCTION = public.trap_%s)', arguments, l, r, body);
          END IF;
        END LOOP;
      END LOOP;
    END LOOP;
  END LOOP;
END $plant$`
