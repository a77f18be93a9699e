SELECT id::text FROM notification_gateway.feed f
WHERE user_key = $1::text::bigint AND NOT is_read ORDER BY created_at DESC, f.id DESC LIMIT $2
