SELECT xid::text, position, inserted_at, item_id FROM (SELECT xid, position, inserted_at, item_id FROM notification_gateway.log
  WHERE user_key = $1 AND disconnect IS NULL AND (xid, position) > ($4::text::xid8, $5::bigint)
    AND NOT (xid = $7::text::xid8 AND position <= $8) AND xid >= $2::text::xid8
UNION ALL SELECT xid, position, inserted_at, item_id FROM notification_gateway.log
  WHERE user_key = $1 AND disconnect IS NULL AND (xid, position) > ($4::text::xid8, $5::bigint)
    AND NOT (xid = $7::text::xid8 AND position <= $8) AND xid = ANY ($3::text[]::xid8[]) AND xid < $2::text::xid8) r ORDER BY r.xid, r.position LIMIT $6
