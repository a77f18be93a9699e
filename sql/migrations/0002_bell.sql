-- The bell costs a writer nothing to speak of while no gateway sleeps: one
-- sequence says so, where each writer took eight locks before.

SET LOCAL ROLE notification_gateway_owner;

-- 1 while a gateway may be asleep, else 0. A sequence, because what one session
-- sets in it the others see at once, and not when it commits. It begins at 1:
-- gateways may be asleep that did so before there was a sequence.
CREATE SEQUENCE notification_gateway.bell MINVALUE 0;
SELECT setval('notification_gateway.bell', 1);

RESET ROLE;
