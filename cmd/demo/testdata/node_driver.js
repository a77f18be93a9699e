// Runs the Node client as it stands: only the base URL, the token and the
// called function come from outside.
const fs = require("node:fs");
const vm = require("node:vm");
const [, , client, base, token] = process.argv;
const fetchOf = globalThis.fetch;
globalThis.fetch = (path, options) => fetchOf(new URL(path, base), options);
globalThis.handleNotification = (data) => console.log(JSON.stringify(data));
vm.runInThisContext(fs.readFileSync(client, "utf8"));
connectToNotifications(token).catch((e) => { console.error(e); process.exit(1); });
