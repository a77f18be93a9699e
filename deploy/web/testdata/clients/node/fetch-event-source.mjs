// @microsoft/fetch-event-source: resumes by itself, but takes the end of a
// stream for its last word: throw in onclose, and it comes back.
globalThis.window = globalThis; // it was written for browsers
globalThis.document = { hidden: false, addEventListener() {}, removeEventListener() {} };
const { fetchEventSource } = await import("@microsoft/fetch-event-source/lib/cjs/index.js").then((m) => m.default);

const [, , url, token] = process.argv;
await fetchEventSource(url, {
  headers: { Authorization: `Bearer ${token}` },
  openWhenHidden: true,
  onmessage(e) {
    if (e.event === "connected") console.log("connected");
    if (e.event === "notification") console.log("notification", JSON.parse(e.data).id);
  },
  onclose() { throw new Error("the stream has ended"); },
  onerror: () => 1000, // ms until the next attempt
});
