SELECT id::text FROM notification_gateway.feed WHERE user_key = $1::text::bigint LIMIT $2
