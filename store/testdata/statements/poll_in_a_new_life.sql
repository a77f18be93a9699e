SELECT pg_current_snapshot()::text, clock_timestamp(), coalesce(CASE WHEN $6::text::boolean THEN notification_gateway.pruned_below() END, '0'), 'notification_gateway.log'::regclass::oid::bigint,
  coalesce(to_regclass('notification_gateway.feed')::oid::text, ''), coalesce((SELECT (extract(epoch FROM d.at) * 1000)::bigint::text FROM notification_gateway.due d WHERE isfinite(d.at) ORDER BY d.at LIMIT 1), ''), '', ''
UNION ALL (SELECT '', inserted_at, xid, position, user_key, item_id, coalesce(disconnect, ''), ''
  FROM notification_gateway.log WHERE NOT (xid = $3::text::xid8 AND position <= $4) AND xid >= $1::text::xid8 ORDER BY xid, position LIMIT $5)
UNION ALL (SELECT '', inserted_at, xid, position, user_key, item_id, coalesce(disconnect, ''), ''
  FROM notification_gateway.log WHERE NOT (xid = $3::text::xid8 AND position <= $4) AND xid = ANY ($2::text[]::xid8[]) AND xid < $1::text::xid8 ORDER BY xid, position LIMIT $5)
UNION ALL (SELECT '', inserted_at, xid, position, user_key, item_id, coalesce(disconnect, ''), kind
  FROM (SELECT *, NULL::text AS disconnect FROM notification_gateway.change) change WHERE NOT (xid = $3::text::xid8 AND position <= $4) AND xid >= $1::text::xid8 ORDER BY xid, position LIMIT $5)
UNION ALL (SELECT '', inserted_at, xid, position, user_key, item_id, coalesce(disconnect, ''), kind
  FROM (SELECT *, NULL::text AS disconnect FROM notification_gateway.change) change WHERE NOT (xid = $3::text::xid8 AND position <= $4) AND xid = ANY ($2::text[]::xid8[]) AND xid < $1::text::xid8 ORDER BY xid, position LIMIT $5)
UNION ALL (SELECT '', inserted_at, xid, position, user_key, item_id, coalesce(disconnect, ''), ''
  FROM notification_gateway.log WHERE NOT (xid = $3::text::xid8 AND position <= $4) AND xid >= $8::text::xid8 AND xid < $1::text::xid8 AND xid <> ALL ($2::text[]::xid8[]) AND inserted_at > $7::text::timestamptz ORDER BY xid, position LIMIT $5)
UNION ALL (SELECT '', inserted_at, xid, position, user_key, item_id, coalesce(disconnect, ''), kind
  FROM (SELECT *, NULL::text AS disconnect FROM notification_gateway.change) change WHERE NOT (xid = $3::text::xid8 AND position <= $4) AND xid >= $8::text::xid8 AND xid < $1::text::xid8 AND xid <> ALL ($2::text[]::xid8[]) AND inserted_at > $7::text::timestamptz ORDER BY xid, position LIMIT $5)
