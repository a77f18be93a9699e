-- A recipient of several columns, by capture_row(): the parts joined by ':',
-- behind the prefix. Empty, which is nobody's, where a part is null or empty or
-- holds ':', because two recipients could not be told apart.
CREATE OR REPLACE FUNCTION notification_gateway.joined_key(r pg_catalog.jsonb, names pg_catalog.text[], prefix pg_catalog.text)
RETURNS pg_catalog.text LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
  part pg_catalog.text;
  key pg_catalog.text := prefix;
BEGIN
  FOR i IN 1 .. pg_catalog.cardinality(names) LOOP
    part := r OPERATOR(pg_catalog.->>) names[i];
    IF part IS NULL OR part OPERATOR(pg_catalog.=) '' OR pg_catalog.strpos(part, ':') OPERATOR(pg_catalog.>) 0 THEN
      RETURN '';
    END IF;
    IF i OPERATOR(pg_catalog.>) 1 THEN key := key OPERATOR(pg_catalog.||) ':'; END IF;
    key := key OPERATOR(pg_catalog.||) part;
  END LOOP;
  RETURN key;
END $$;
