SELECT min(i.subject::text), min(i.user_key::text), coalesce((WITH RECURSIVE unwrapped (oid) AS (
    SELECT a.atttypid FROM pg_attribute a WHERE a.attrelid = to_regclass('notification_gateway.identity') AND a.attname = 'subject'
    UNION ALL SELECT t.typbasetype FROM unwrapped u JOIN pg_type t ON t.oid = u.oid AND t.typtype = 'd')
  SELECT CASE WHEN t.oid = 'bpchar'::regtype THEN 'bpchar' ELSE format_type(t.oid, NULL) END FROM unwrapped u JOIN pg_type t ON t.oid = u.oid WHERE t.typtype <> 'd'), ''), count(*), min(i.also)
FROM (SELECT subject, user_key, to_jsonb(v) ->> 'also' AS also FROM notification_gateway.identity v WHERE subject = $1 LIMIT 2) i
