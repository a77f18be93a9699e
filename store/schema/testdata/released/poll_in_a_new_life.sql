SELECT pg_current_snapshot()::text, clock_timestamp(), '0'::xid8, 'notification_gateway.log'::regclass::oid::bigint,
  coalesce(to_regclass('notification_gateway.feed')::oid::text, ''), '', ''
UNION ALL (SELECT '', inserted_at, xid, position, user_key, item_id, coalesce(disconnect, '')
  FROM notification_gateway.log WHERE NOT (xid = $3::text::xid8 AND position <= $4) AND xid >= $1::text::xid8 ORDER BY xid, position LIMIT $5)
UNION ALL (SELECT '', inserted_at, xid, position, user_key, item_id, coalesce(disconnect, '')
  FROM notification_gateway.log WHERE NOT (xid = $3::text::xid8 AND position <= $4) AND xid = ANY ($2::text[]::xid8[]) AND xid < $1::text::xid8 ORDER BY xid, position LIMIT $5)
UNION ALL (SELECT '', inserted_at, xid, position, user_key, item_id, coalesce(disconnect, '')
  FROM notification_gateway.log WHERE NOT (xid = $3::text::xid8 AND position <= $4) AND xid >= $7::text::xid8 AND xid < $1::text::xid8 AND xid <> ALL ($2::text[]::xid8[]) AND inserted_at > $6 ORDER BY xid, position LIMIT $5)
