// npm eventsource: resumes by itself, with the header.
import { EventSource } from "eventsource";

const [, , url, token] = process.argv;
const source = new EventSource(url, {
  fetch: (input, init) => fetch(input, { ...init, headers: { ...init.headers, Authorization: `Bearer ${token}` } }),
});
source.addEventListener("connected", () => console.log("connected"));
source.addEventListener("notification", (e) => console.log("notification", JSON.parse(e.data).id));
