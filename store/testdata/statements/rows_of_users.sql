SELECT id::text, user_key::text, data::text, pg_typeof(data) IN ('json'::regtype, 'jsonb'::regtype)
FROM (SELECT id, user_key, data FROM notification_gateway.feed
  WHERE id = ANY ($1::text[]::bigint[]) AND user_key = ANY ($4::text[]::bigint[])
    AND (id::text COLLATE "C", user_key::text COLLATE "C") IN (SELECT w.id, w.user_key FROM unnest($2::text[], $3::text[]) w (id, user_key))
  OFFSET 0) f
