SELECT proof.pruned::text, proof.kept, r.xid::text, r.position, CASE WHEN isfinite(r.inserted_at) THEN r.inserted_at END, r.user_key, r.kind, r.item_id
FROM (SELECT notification_gateway.pruned_below() AS pruned, true AS kept OFFSET 0) proof LEFT JOIN (
  SELECT u.* FROM unnest($1::text[]) k (key) CROSS JOIN LATERAL (
    (SELECT xid, position, inserted_at, user_key, item_id, '' AS kind FROM notification_gateway.log
    WHERE user_key = k.key COLLATE "C" AND disconnect IS NULL AND (xid, position) > ($4::text::xid8, $5::bigint)
      AND NOT (xid = $7::text::xid8 AND position <= $8) AND xid >= $2::text::xid8 ORDER BY xid, position LIMIT $6)
  UNION ALL (SELECT xid, position, inserted_at, user_key, item_id, '' AS kind FROM notification_gateway.log
    WHERE user_key = k.key COLLATE "C" AND disconnect IS NULL AND (xid, position) > ($4::text::xid8, $5::bigint)
      AND NOT (xid = $7::text::xid8 AND position <= $8) AND xid = ANY ($3::text[]::xid8[]) AND xid < $2::text::xid8 ORDER BY xid, position LIMIT $6)
  UNION ALL (SELECT xid, position, inserted_at, user_key, item_id, kind FROM notification_gateway.change
    WHERE user_key = k.key COLLATE "C" AND (xid, position) > ($4::text::xid8, $5::bigint)
      AND NOT (xid = $7::text::xid8 AND position <= $8) AND xid >= $2::text::xid8 ORDER BY xid, position LIMIT $6)
  UNION ALL (SELECT xid, position, inserted_at, user_key, item_id, kind FROM notification_gateway.change
    WHERE user_key = k.key COLLATE "C" AND (xid, position) > ($4::text::xid8, $5::bigint)
      AND NOT (xid = $7::text::xid8 AND position <= $8) AND xid = ANY ($3::text[]::xid8[]) AND xid < $2::text::xid8 ORDER BY xid, position LIMIT $6)
  ) u ORDER BY u.xid, u.position LIMIT $6
) r ON true ORDER BY r.xid, r.position
