-- For mappings: a JSON time or text as RFC 3339 with Z. RFC 3339 has the years 0001
-- to 9999. A time outside of them, such as infinity, is null: a browser cannot
-- read it, and the rest of the row is good.
CREATE OR REPLACE FUNCTION notification_gateway.rfc3339(value jsonb) RETURNS text LANGUAGE sql STABLE AS $$
  SELECT CASE WHEN v.at >= '0001-01-01 00:00:00+00'::timestamptz AND v.at < '10000-01-01 00:00:00+00'::timestamptz THEN
    regexp_replace(to_char(v.at AT TIME ZONE 'UTC'::text, 'YYYY-MM-DD"T"HH24:MI:SS.US'::text), '\.?0+$'::text, ''::text) || 'Z'::text END
  FROM (SELECT (value #>> '{}'::text[])::timestamptz AS at OFFSET 0) v
$$;
