SELECT subject::text, coalesce(user_key::text, '') FROM notification_gateway.identity WHERE subject = ANY ($1)
