SELECT min(i.subject::text), min(i.user_key::text), min(pg_typeof(i.subject)::text), count(*)
FROM (SELECT subject, user_key FROM notification_gateway.identity WHERE subject = $1 LIMIT 2) i
