SELECT subject::text, coalesce(user_key::text, ''), to_jsonb(i) ->> 'also' FROM notification_gateway.identity i WHERE subject = ANY ($1)
