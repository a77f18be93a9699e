-- The role that the gateways run as. `gateway migrate --grant-to gateway` gives
-- it its rights, none of them on the CRM's tables.
CREATE ROLE gateway LOGIN PASSWORD 'gateway';
