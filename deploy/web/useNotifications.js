// A React hook over the browser module. The list comes from the CRM's own API.
import { useEffect, useState } from "react";
import { connect } from "/api/notifications/client.js"; // with a bundler: a copy of the file

/** @param {{user: string, token?: () => Promise<string|null>, load: () => Promise<any[]>}} o The functions must stay the same over renders. */
export function useNotifications({ user, token, load }) {
  const [rows, setRows] = useState(() => new Map());
  const [state, setState] = useState("connecting");
  useEffect(() => {
    const put = (n) => setRows((old) => new Map(old).set(n.id, n));
    const drop = (id) => setRows((old) => { const rows = new Map(old); rows.delete(id); return rows; });
    // What came while the list was on its way is newer than the list.
    const reload = async () => { const list = await load(); setRows((old) => new Map([...list.map((n) => [n.id, n]), ...old])); };
    let loaded;
    const feed = connect({
      user, token, changes: true, onNotification: put, onUpdated: put, onRemoved: drop,
      onReset: () => { setRows(new Map()); reload(); },
      onState(s) { setState(s); if (s === "live") loaded ??= reload(); },
    });
    return () => feed.close();
  }, [user, token, load]);
  return { rows: [...rows.values()].sort((a, b) => b.id - a.id), state };
}
