-- The key that signs the gateway's own sessions. It is random, and every replica
-- gets the same one from the function session_key(). A materialized view holds
-- it, because a dump has its definition and not what is in it: a restored
-- database makes a key of its own, and nobody who reads a dump can sign.

SET LOCAL ROLE notification_gateway_owner;

CREATE MATERIALIZED VIEW notification_gateway.session_secret AS
  SELECT sha256(convert_to(gen_random_uuid()::text || gen_random_uuid()::text || gen_random_uuid()::text, 'UTF8')) AS key;

RESET ROLE;
