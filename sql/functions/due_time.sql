-- A due time as it stands in a row's JSON, by capture_row(). A time without a
-- zone is UTC. Null is at once, and so is what is no time: the CRM may have given the
-- column another type, and its writes must not fail for that.
CREATE OR REPLACE FUNCTION notification_gateway.due_time(value pg_catalog.text) RETURNS pg_catalog.timestamptz LANGUAGE plpgsql STABLE AS $$
BEGIN
  IF value OPERATOR(pg_catalog.~) '[+-][0-9:]+$' AND value OPERATOR(pg_catalog.~) 'T' OR value OPERATOR(pg_catalog.~) '^-?infinity$' THEN
    RETURN value::pg_catalog.timestamptz;
  END IF;
  RETURN pg_catalog.timezone('UTC'::pg_catalog.text, value::pg_catalog.timestamp);
EXCEPTION WHEN OTHERS THEN
  RETURN NULL;
END $$;
