-- A due time as it stands in a row's JSON, by capture_row(). A time without a
-- zone is UTC. Null is at once.
CREATE OR REPLACE FUNCTION notification_gateway.due_time(value pg_catalog.text) RETURNS pg_catalog.timestamptz LANGUAGE plpgsql STABLE AS $$
BEGIN
  IF value OPERATOR(pg_catalog.~) '[+-][0-9:]+$' AND value OPERATOR(pg_catalog.~) 'T' OR value OPERATOR(pg_catalog.~) '^-?infinity$' THEN
    RETURN value::pg_catalog.timestamptz;
  END IF;
  RETURN pg_catalog.timezone('UTC'::pg_catalog.text, value::pg_catalog.timestamp);
END $$;
