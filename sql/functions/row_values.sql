-- The named columns of a row as JSON, by capture_row(). A column that the CRM has
-- renamed is found by its attribute number, and has the name that attach knew. A
-- char(n) comes without its padding. A row with another column that has no JSON
-- form, such as json with \u0000 in it, is read column by column.
CREATE OR REPLACE FUNCTION notification_gateway.row_values(r anyelement, relation pg_catalog.oid, names pg_catalog.text[], numbers pg_catalog.text[])
RETURNS pg_catalog.jsonb LANGUAGE plpgsql AS $$
DECLARE
  found_row pg_catalog.jsonb;
  value pg_catalog.jsonb;
  column_name pg_catalog.name;
BEGIN
  BEGIN
    found_row := pg_catalog.to_jsonb(r);
  EXCEPTION WHEN OTHERS THEN
    found_row := '{}'::pg_catalog.jsonb;
  END;
  FOR i IN 1 .. pg_catalog.cardinality(names) LOOP
    IF NOT found_row OPERATOR(pg_catalog.?) names[i] OR pg_catalog.right(found_row OPERATOR(pg_catalog.->>) names[i], 1) OPERATOR(pg_catalog.=) ' ' THEN
      SELECT a.attname INTO column_name FROM pg_catalog.pg_attribute a
        WHERE a.attrelid OPERATOR(pg_catalog.=) coalesce(pg_catalog.pg_partition_root(relation), relation)
          AND a.attnum OPERATOR(pg_catalog.=) numbers[i]::pg_catalog.int2 AND NOT a.attisdropped;
      value := 'null'::pg_catalog.jsonb;
      IF FOUND THEN
        BEGIN
          EXECUTE pg_catalog.format('SELECT pg_catalog.to_jsonb(($1).%I)', column_name) INTO value USING r;
          IF pg_catalog.right(value OPERATOR(pg_catalog.#>>) '{}'::pg_catalog.text[], 1) OPERATOR(pg_catalog.=) ' ' THEN
            EXECUTE pg_catalog.format('SELECT pg_catalog.to_jsonb(($1).%I::pg_catalog.text)', column_name) INTO value USING r;
          END IF;
        EXCEPTION WHEN OTHERS THEN
          EXECUTE pg_catalog.format('SELECT pg_catalog.to_jsonb(pg_catalog.md5(($1).%I::pg_catalog.text))', column_name) INTO value USING r;
        END;
      END IF;
      found_row := found_row OPERATOR(pg_catalog.||) pg_catalog.jsonb_build_object(names[i], coalesce(value, 'null'::pg_catalog.jsonb));
    END IF;
  END LOOP;
  RETURN found_row;
END $$;
