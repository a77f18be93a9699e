-- For mappings: a JSON time or text as RFC 3339 with Z.
CREATE OR REPLACE FUNCTION notification_gateway.rfc3339(value jsonb) RETURNS text LANGUAGE sql STABLE AS $$
  SELECT regexp_replace(to_char((value #>> '{}')::timestamptz AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US'), '\.?0+$', '') || 'Z'
$$;
