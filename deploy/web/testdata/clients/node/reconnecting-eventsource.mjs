// reconnecting-eventsource: puts the last event ID into the query as
// lastEventId, and comes back also after a 503. It can send no header: the
// token goes into a cookie, or, here, where there is none, into the query.
import { EventSource } from "eventsource";
import ReconnectingEventSource from "reconnecting-eventsource";

const [, , url, token] = process.argv;
const source = new ReconnectingEventSource(`${url}?token=${token}`, { eventSourceClass: EventSource, max_retry_time: 1000 });
source.addEventListener("connected", () => console.log("connected"));
source.addEventListener("notification", (e) => console.log("notification", JSON.parse(e.data).id));
