SELECT pg_current_snapshot()::text, clock_timestamp(), '0'::xid8, 'notification_gateway.log'::regclass::oid::bigint,
  coalesce(to_regclass('notification_gateway.feed')::oid::text, ''), '', '', '', false
UNION ALL SELECT l.*, f.data, f.checked
FROM ((SELECT '', inserted_at, xid, position, user_key, item_id, coalesce(disconnect, '')
  FROM notification_gateway.log WHERE NOT (xid = $3::text::xid8 AND position <= $4) AND xid >= $1::text::xid8 ORDER BY xid, position LIMIT $5)
UNION ALL (SELECT '', inserted_at, xid, position, user_key, item_id, coalesce(disconnect, '')
  FROM notification_gateway.log WHERE NOT (xid = $3::text::xid8 AND position <= $4) AND xid = ANY ($2::text[]::xid8[]) AND xid < $1::text::xid8 ORDER BY xid, position LIMIT $5)) l (snapshot, inserted_at, xid, position, user_key, item_id, disconnect)
LEFT JOIN LATERAL (SELECT CASE WHEN octet_length(data) <= 16384 THEN data END AS data, checked
  FROM (SELECT data::text AS data, pg_typeof(data) IN ('json'::regtype, 'jsonb'::regtype) AS checked FROM (SELECT id, user_key, data, created_at FROM notification_gateway.feed WHERE id = (CASE WHEN l.disconnect = '' AND l.item_id <> '' THEN l.item_id END)::bigint AND user_key::text = l.user_key COLLATE "C" OFFSET 0) f LIMIT 1) f OFFSET 0) f ON true
ORDER BY 3, 4
